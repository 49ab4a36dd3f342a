"""TensorBoard, opened on what matters: `python -m src.report.board --logdir logs`, with any option of TensorBoard's.

TensorBoard sorts its cards by name, and `epoch` comes before `train/loss`. It pins those that an address names, so the
plain address leads to one that does.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from tensorboard import default, program
from tensorboard.plugins.base_plugin import FlagsError

PINNED = ("val/acc", "train/loss", "val/loss")
OPENED_ON = "/?" + urlencode({"pinnedCards": json.dumps([{"plugin": "scalars", "tag": tag} for tag in PINNED])})

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]  # as WSGI defines it


def with_pinned_cards(board: Application) -> Application:
    """Let the plain address of TensorBoard lead to that with pinned cards."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/" or environ["QUERY_STRING"]:
            return board(environ, start_response)
        start_response("302 Found", [("Location", environ["SCRIPT_NAME"] + OPENED_ON)])
        return []

    return application


def main() -> None:
    """Serve until Ctrl-C."""
    board = program.TensorBoard(
        default.get_plugins(),
        server_class=lambda app, flags: program.create_port_scanning_werkzeug_server(with_pinned_cards(app), flags),
    )
    try:
        board.configure(sys.argv)
    except FlagsError as error:
        sys.exit(f"ERROR: {error}")
    sys.exit(board.main())


if __name__ == "__main__":
    main()
