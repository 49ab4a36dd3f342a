"""The parts of the page: sections of charts, tables and pictures, each with its figures as JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from src.callbacks.image_report import encode_pngs
from src.report import charts
from src.report.charts import Series


class LeftOut(Exception):
    """Raised if a section does not apply to a run; the message says why."""


@dataclass(frozen=True)
class Chart:
    """An SVG, with the names of its curves if there are several."""

    svg: Markup
    title: str
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table; `note` explains its columns."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures as base64 PNGs, each with its caption; `note` explains them."""

    title: str
    pictures: Sequence[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: the heading.
        note: what is shown, and how it is defined.
        figures: the results, for `explanation.json`.
        parts: charts, tables and galleries, in order.
        left_out: why the section does not apply; empty if it does.
    """

    title: str
    note: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    parts: Sequence[Chart | Table | Gallery] = ()
    left_out: str = ""

    def of_kind(self, kind: type) -> list[Any]:
        """Return the parts that are charts, tables or galleries."""
        return [part for part in self.parts if isinstance(part, kind)]


def curves(title: str, x_label: str, y_label: str, named: Mapping[str, Sequence[tuple[float, float]]]) -> Chart:
    """Draw curves by name, each a list of (x, y), without values that are not finite."""
    finite = {name: [(x, y) for x, y in curve if math.isfinite(y)] for name, curve in named.items()}
    series = [Series(name, rank, curve) for rank, (name, curve) in enumerate(finite.items())]
    return Chart(charts.lines(series, x_label, y_label), title, list(named) if len(named) > 1 else ())


def gallery(title: str, pictures: Any, captions: Sequence[str], note: str = "") -> Gallery:
    """Make a gallery of pictures (N, C, H, W) with values of any range."""
    return Gallery(title, list(zip(encode_pngs(pictures), captions, strict=True)), note)


def percent(share: float, digits: int = 1) -> str:
    """Format a fraction as a percentage; NaN as a dash."""
    return "–" if math.isnan(share) else f"{100 * share:.{digits}f} %"
