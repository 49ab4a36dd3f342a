"""The cards of a sweep's nets side by side, once all jobs have ended. Hydra loads this always: it imports little."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from src.system.json_files import part, read_json
from src.system.safe_files import printable

NAME = "cards"


class Comparison(Callback):
    """Prepare to print the totals of all nets of a sweep as one table, which `end` does, whether jobs fail or not."""

    folder: Path | None = None  # of this process's sweep

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note where the cards will be."""
        Comparison.folder = Path(config.hydra.sweep.dir)


def named_choices(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the `name` of a run's model and its `data`, as it has recorded them, fit for a terminal."""
    choices = part(record, "choices")
    return {key: printable(str(choices.get(choice) or "")) for key, choice in {"name": "model", "data": "data"}.items()}


def end() -> None:
    """Print the cards of the jobs of a sweep, in their order, and write them to `cards.json`, `.md` and `.html`."""
    if Comparison.folder is None:
        return
    paths = sorted(Comparison.folder.glob("*/card.json"), key=lambda path: (len(path.parent.name), path.parent.name))
    cards = [(path.parent.name, card) for path in paths if (card := read_json(path)).get("totals")]
    if cards:
        report(cards, Comparison.folder)


def report(cards: list[tuple[str, dict[str, Any]]], folder: Path) -> None:
    """Print and write the comparison of cards, given with the names of their folders."""
    from src.cards.page import write_comparison
    from src.cards.text import print_comparison, write_comparison_text
    from src.system.json_files import write_json

    rows = [row_of(card, name) for name, card in cards]
    write_json(folder / f"{NAME}.json", {"cards": rows})
    write_comparison_text(folder / f"{NAME}.md", rows)
    write_comparison(folder / f"{NAME}.html", rows)
    print_comparison(rows, folder)


def row_of(card: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the totals of a card and what its last layer sees."""
    keys = ("name", "net", "data", "task", "input_shape", "batch_size", "unit", "timed", "totals")
    last = card["layers"][-1]
    return {**{key: card[key] for key in keys}, "folder": folder, "sees": last["sees"], "sees_all": last["sees_all"]}
