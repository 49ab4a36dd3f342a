"""A card as a self-contained HTML page."""

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
    """Return the templates of this package, with its number formats as filters."""
    result = environment("src.cards", "cards.css")
    for function in (text.format_bytes, text.format_shape, text.format_sees, text.format_share, text.format_latency):
        result.filters[function.__name__.removeprefix("format_")] = function
    result.filters |= {"count": format_count, "integer": format_integer, "title_of": text.title_of}
    return result


def render(card: Mapping[str, Any]) -> str:
    """Render the page of a card."""
    largest = {key: max([one[key] or 0 for one in card["layers"]] + [1e-9]) for key in ("params", "macs", "share")}
    return (
        templates()
        .get_template("card.html.jinja")
        .render(card=card, facts=text.facts(card), legend=text.legend(card), most=largest, diagram=diagram(card))
    )


def write_page(card: Mapping[str, Any], folder: Path) -> None:
    """Write the page of a card, and its diagram as a separate file."""
    write_whole(folder / PAGE, render(card))
    write_whole(folder / DIAGRAM, diagram(card, standalone=True))


def write_comparison(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page that compares several cards, with a link to each."""
    write_whole(path, templates().get_template("cards.html.jinja").render(rows=rows))
