"""The cards of a sweep's nets side by side, once all jobs have ended; imports nothing heavy, as Hydra loads it always."""

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.system.json_files import read_json

NAME = "cards"


class Comparison(Callback):
    """Print the totals of all nets of a sweep as one table, and write them to `cards.json`, `.md` and `.html`.

    That happens when the program ends, also if some jobs have failed. With format=json all else that the program prints
    goes to standard error.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Prepare the report."""
        output = None
        if config.format == "json":
            sys.stdout.flush()
            output = os.dup(1)
            os.dup2(2, 1)
        atexit.register(end, Path(config.hydra.sweep.dir), output, os.getpid())


def end(folder: Path, output: int | None, process: int) -> None:
    """Report the cards of a sweep's jobs, in their order; worker processes of a sweep do not.

    Args:
        folder: of the sweep.
        output: a file descriptor that takes JSON, instead of a table on standard output.
        process: of the program.
    """
    if os.getpid() != process:
        return
    if output is not None:
        sys.stdout.flush()
        os.dup2(output, 1)
    paths = sorted(folder.glob("*/card.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    cards = [(path.parent.name, card) for path in paths if (card := read_json(path)).get("totals")]
    if cards:
        report(cards, folder, "table" if output is None else "json")


def report(cards: list[tuple[str, dict[str, Any]]], folder: Path, format: str) -> None:
    """Print and write the comparison of cards, given with the names of their folders."""
    from src.cards.page import write_comparison
    from src.cards.text import print_comparison, write_comparison_text
    from src.system.json_files import write_json

    rows = [row_of(card, name) for name, card in cards]
    write_json(folder / f"{NAME}.json", {"cards": rows})
    write_comparison_text(folder / f"{NAME}.md", rows)
    write_comparison(folder / f"{NAME}.html", rows)
    print_comparison(rows, folder, format)


def row_of(card: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the totals of a card and what its last layer sees."""
    keys = ("name", "net", "data", "task", "input_shape", "batch_size", "unit", "timed", "totals")
    last = card["layers"][-1]
    return {**{key: card[key] for key in keys}, "folder": folder, "sees": last["sees"], "sees_all": last["sees_all"]}
