"""TensorBoard with scores and losses pinned: `python -m src.report.board --logdir logs`, plus TensorBoard's options.

TensorBoard sorts its cards by name, with `epoch` before `train/loss`, but pins the ones named in the query of the URL.
The plain URL is therefore redirected to one with such a query.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from tensorboard import default, program
from tensorboard.plugins.base_plugin import FlagsError

from src.config.paths import CONFIGS

LOSSES = ("train/loss", "val/loss")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]  # a WSGI application


def pinned_tags(tasks: Path = CONFIGS / "model" / "task") -> list[str]:
    """List the score of each configured task, and the losses; TensorBoard ignores tags without data."""
    contents = (yaml.safe_load(path.read_text()) for path in sorted(tasks.glob("*.yaml")))
    scores = dict.fromkeys(content["score"] for content in contents if "score" in content)
    return [*(f"val/{score}" for score in scores), *LOSSES]


def with_pinned_cards(board: Application, tags: Sequence[str]) -> Application:
    """Redirect the plain URL of TensorBoard to one that pins cards."""
    query = "/?" + urlencode({"pinnedCards": json.dumps([{"plugin": "scalars", "tag": tag} for tag in tags])})

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/" or environ["QUERY_STRING"]:
            return board(environ, start_response)
        start_response("302 Found", [("Location", environ["SCRIPT_NAME"] + query)])
        return []

    return application


def main() -> None:
    """Serve until Ctrl-C."""
    board = program.TensorBoard(
        default.get_plugins(),
        server_class=lambda app, flags: program.create_port_scanning_werkzeug_server(
            with_pinned_cards(app, pinned_tags()), flags
        ),
    )
    try:
        board.configure(sys.argv)
    except FlagsError as error:
        sys.exit(f"ERROR: {error}")
    sys.exit(board.main())


if __name__ == "__main__":
    main()
