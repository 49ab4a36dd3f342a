"""A card as one HTML page that loads nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from src.cards import text
from src.cards.diagram import diagram
from src.report.formats import format_count, format_integer
from src.report.templates import environment
from src.system.json_files import write_whole

PAGE, DIAGRAM = "card.html", "diagram.svg"


def templates() -> Environment:
    """Return the templates of this room, with its ways to write numbers."""
    found = environment("src.cards", "cards.css")
    for function in (text.format_bytes, text.format_shape, text.format_sees, text.format_share, text.format_latency):
        found.filters[function.__name__.removeprefix("format_")] = function
    found.filters |= {"count": format_count, "integer": format_integer, "title_of": text.title_of}
    return found


def render(card: Mapping[str, Any]) -> str:
    """Render the page of a card."""
    most = {key: max([one[key] or 0 for one in card["layers"]] + [1e-9]) for key in ("params", "macs", "share")}
    return (
        templates()
        .get_template("card.html.jinja")
        .render(card=card, facts=text.facts(card), legend=text.legend(card), most=most, diagram=diagram(card))
    )


def write_page(card: Mapping[str, Any], folder: Path) -> None:
    """Write the page of a card, and its diagram by itself."""
    write_whole(folder / PAGE, render(card))
    write_whole(folder / DIAGRAM, diagram(card, standalone=True))


def write_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page that compares several cards, with a link to each."""
    write_whole(path, templates().get_template("cards.html.jinja").render(rows=rows))
