"""Compare the cards of a sweep's nets once all jobs have ended. Hydra always loads this, so it imports little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.system.json_files import part, read_json
from src.system.safe_files import printable

NAME = "cards"


class Comparison(Callback):
    """Record the folder of a sweep, whose nets `end` compares in one table, whether or not jobs fail."""

    folder: Path | None = None  # of the sweep in this process

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder of the cards."""
        Comparison.folder = Path(config.hydra.sweep.dir)


def named_choices(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the recorded `name` of a run's model and its `data`, safe to print in a terminal."""
    choices = part(record, "choices")
    return {key: printable(str(choices.get(choice) or "")) for key, choice in {"name": "model", "data": "data"}.items()}


def end() -> None:
    """Print the cards of a sweep's jobs, in order, and write them to `cards.json`, `.md` and `.html`."""
    if Comparison.folder is None:
        return
    paths = sorted(Comparison.folder.glob("*/card.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    cards = [(path.parent.name, card) for path in paths if (card := read_json(path)).get("totals")]
    if cards:
        report(cards, Comparison.folder)


def report(cards: list[tuple[str, dict[str, Any]]], folder: Path) -> None:
    """Print and write the comparison of (folder name, card) pairs."""
    from src.cards.page import write_comparison
    from src.cards.text import print_comparison, write_comparison_text
    from src.system.json_files import write_json

    rows = [row_of(card, name) for name, card in cards]
    write_json(folder / f"{NAME}.json", {"cards": rows})
    write_comparison_text(folder / f"{NAME}.md", rows)
    write_comparison(folder / f"{NAME}.html", rows)
    print_comparison(rows, folder)


def row_of(card: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the totals of a card and the receptive field of its last layer."""
    keys = ("name", "net", "data", "task", "input_shape", "batch_size", "unit", "timed", "totals")
    last = card["layers"][-1]
    return {**{key: card[key] for key in keys}, "folder": folder, "sees": last["sees"], "sees_all": last["sees_all"]}
