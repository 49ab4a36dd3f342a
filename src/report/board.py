"""TensorBoard, opened on what matters: `python -m src.report.board --logdir logs`, with any option of TensorBoard's.

TensorBoard sorts its cards by name, and `epoch` comes before `train/loss`. It pins those that an address names, so the
plain address leads to one that does.
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

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]  # as WSGI defines it


def pinned(tasks: Path = CONFIGS / "model" / "task") -> list[str]:
    """The score of each task that there is a configuration of, and the losses; TensorBoard passes over what is not in
    its folder."""
    contents = (yaml.safe_load(path.read_text()) for path in sorted(tasks.glob("*.yaml")))
    scores = dict.fromkeys(content["score"] for content in contents if "score" in content)
    return [*(f"val/{score}" for score in scores), *LOSSES]


def with_pinned_cards(board: Application, tags: Sequence[str]) -> Application:
    """Let the plain address of TensorBoard lead to that with pinned cards."""
    opened_on = "/?" + urlencode({"pinnedCards": json.dumps([{"plugin": "scalars", "tag": tag} for tag in tags])})

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/" or environ["QUERY_STRING"]:
            return board(environ, start_response)
        start_response("302 Found", [("Location", environ["SCRIPT_NAME"] + opened_on)])
        return []

    return application


def main() -> None:
    """Serve until Ctrl-C."""
    board = program.TensorBoard(
        default.get_plugins(),
        server_class=lambda app, flags: program.create_port_scanning_werkzeug_server(
            with_pinned_cards(app, pinned()), flags
        ),
    )
    try:
        board.configure(sys.argv)
    except FlagsError as error:
        sys.exit(f"ERROR: {error}")
    sys.exit(board.main())


if __name__ == "__main__":
    main()
