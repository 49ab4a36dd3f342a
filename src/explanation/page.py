"""The page about a run, a self-contained HTML file, and its figures as JSON."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from src.explanation.section import Chart, Gallery, LeftOut, Section, Table
from src.report.charts import style_of
from src.report.templates import environment
from src.system.json_files import write_json, write_whole

PAGE, FIGURES = "explanation.html", "explanation.json"


def section_or_reason(title: str, make: Callable[[], Section]) -> Section:
    """Make a section, or an empty one with the reason if it does not apply."""
    try:
        return make()
    except LeftOut as reason:
        return Section(title, left_out=str(reason))


def render(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Render the page as HTML; it loads nothing from elsewhere and runs no script."""
    return (
        environment("src.explanation", "more.css")
        .get_template("explanation.html.jinja")
        .render(
            title=title,
            facts=facts,
            sections=sections,
            style_of=style_of,
            kinds={"chart": Chart, "table": Table, "gallery": Gallery},
            now=datetime.now().astimezone(),
        )
    )


def write(folder: Path, title: str, facts: Mapping[str, str], sections: Mapping[str, Section]) -> Path:
    """Write the page and its figures to a folder, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {key: {"left_out": one.left_out} if one.left_out else one.figures for key, one in sections.items()}
    write_json(folder / FIGURES, {"facts": dict(facts), **figures})
    write_whole(folder / PAGE, render(title, facts, list(sections.values())))
    return folder / PAGE
