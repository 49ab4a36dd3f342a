"""Charts as SVG that needs nothing else: points with a Pareto front, curves, the history of a study."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from src.report.curves import Curve
from src.report.statistics import pareto_front

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 46  # margins, which hold the labels of the axes
# of style.css: colours, and the dashes of lines and shapes of points that tell those of one colour apart
COLOURS, PATTERNS = 8, 3
DISTINCT = COLOURS * PATTERNS  # what comes after is grey
DIGIT = 7.2  # the width of a character of a label
Text = Callable[..., str]  # writes a number, with as many digits as it is asked for
Box = tuple[float, float, float, float]  # x, y of the upper left corner and of the lower right one


@dataclass(frozen=True)
class Point:
    """A configuration in a chart: where it is, its name, and its place in the table, counted from 0."""

    x: float
    y: float
    name: str
    rank: int


@dataclass(frozen=True)
class Series:
    """A line in a chart, and thin lines beside it."""

    name: str
    rank: int
    curve: Curve
    others: Sequence[Curve] = ()


class Axis:
    """From values to places on the page.

    Args:
        values: that are to be seen.
        start: the place of the lowest one.
        end: the place of the highest one.
        log: equal ratios have equal distances.
        margin: the share of the axis that is left free at each end.
        whole: its values are counted, and so are its ticks.
    """

    def __init__(
        self,
        values: Sequence[float],
        start: float,
        end: float,
        log: bool = False,
        margin: float = 0.06,
        whole: bool = False,
    ) -> None:
        self.log, self.whole = log, whole
        low, high = (self._scaled(bound) for bound in (min(values), max(values)))
        room = (high - low) * margin if high > low else abs(high) * 0.05 or 0.5
        self.low, self.high, self.start, self.end = low - room, high + room, start, end

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            steps = (1, 2, 5) if self.high - self.low < 3 else (1,)
            found = [step * 10.0**power for power in powers for step in steps]
            found = [value for value in found if self.low <= math.log10(value) <= self.high]
            return found if len(found) > 1 else self._round(10**self.low, 10**self.high)  # all of nearly one size
        return self._round(self.low, self.high)

    def _round(self, low: float, high: float) -> list[float]:
        """Round values at equal distances."""
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
        step = max(step, 1) if self.whole else step
        return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def scatter(points: Sequence[Point], x_label: str, y_label: str, x_text: Text, minimised: bool = False) -> Markup:
    """Values against costs, less of which is better, on a logarithmic axis; what nothing beats is joined by a line."""
    x = Axis([point.x for point in points], LEFT, WIDTH - RIGHT, log=True, margin=0.12)
    y = Axis([point.y for point in points], HEIGHT - BOTTOM, TOP, margin=0.12)
    front = pareto_front([(point.x, -point.y if minimised else point.y) for point in points])
    parts = [axes(x, y, x_label, y_label, x_text)]
    steps = [f"{x(points[index].x)},{y(points[index].y)}" for index in front]
    if len(front) > 1:
        parts.append(Markup('<polyline class="front" points="{}"/>').format(" ".join(steps)))
    best = set(front)
    for index in sorted(range(len(points)), key=lambda index: -points[index].rank):  # the best on top
        point = points[index]
        title = f"{point.name}: {x_text(point.x)}, {text_of(y_label)(point.y)}"
        parts.append(marker(point.rank, x(point.x), y(point.y), title, index in best))
    taken: list[Box] = [(x(p.x) - 6, y(p.y) - 6, x(p.x) + 6, y(p.y) + 6) for p in points]
    for index in [*front, *(index for index in range(len(points)) if index not in best)]:
        point = points[index]
        if point.rank >= DISTINCT and index not in best:  # a number would be one of hundreds
            continue
        place = free_place(x(point.x), y(point.y), f"{point.rank + 1}", taken)
        if place is not None:
            parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(*place, point.rank + 1))
    return svg(f"{y_label} against {x_label}", parts)


def marker(rank: int, x: float, y: float, title: str, best: bool) -> Markup:
    """A point: a circle, a square or a triangle."""
    shape = (
        f'circle cx="{x}" cy="{y}" r="5.5"',
        f'path d="M{x - 5:.1f} {y - 5:.1f}h10v10h-10z"',
        f'path d="M{x} {y - 7:.1f}l6 11h-12z"',
    )[rank // COLOURS if rank < DISTINCT else 0]
    classes = f"{style_of(rank)} point{' best' * best}"
    name = shape.partition(" ")[0]
    return Markup('<{} class="{}"><title>{}</title></{}>').format(Markup(shape), classes, title, name)


def free_place(x: float, y: float, text: str, taken: list[Box]) -> tuple[float, float] | None:
    """Where the label of a point hides nothing, which `taken` then holds; None where there is no such place."""
    width = DIGIT * len(text)
    for left, base in ((x + 8, y + 4), (x - 8 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 19)):
        box = (left, base - 11, left + width, base + 2)
        inside = box[0] > LEFT and box[2] < WIDTH and box[1] > 0 and box[3] < HEIGHT - BOTTOM + 8
        if inside and not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken
        ):
            taken.append(box)
            return round(left, 1), round(base, 1)
    return None


def lines(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Curves; each series is a group that the page can hide."""
    drawn = [curve for one in series for curve in (one.curve, *one.others) if curve]
    if not drawn:
        return Markup("")
    x = Axis([point[0] for curve in drawn for point in curve], LEFT, WIDTH - RIGHT, margin=0.02, whole=True)
    y = Axis([point[1] for curve in drawn for point in curve], HEIGHT - BOTTOM, TOP)
    parts = [axes(x, y, x_label, y_label, short)]
    for one in reversed(series):  # the best on top
        thin = [line(curve, x, y, "thin") for curve in one.others if len(curve) > 1]
        parts.append(
            Markup('<g class="series {}" data-series="{}"><title>{}</title>{}{}</g>').format(
                style_of(one.rank), one.rank, one.name, Markup("").join(thin), line(one.curve, x, y, "mean")
            )
        )
    return svg(f"{y_label} by {x_label}", parts)


def line(curve: Curve, x: Axis, y: Axis, kind: str) -> Markup:
    """A curve; a single point is a dot."""
    if len(curve) == 1:
        return Markup('<circle cx="{}" cy="{}" r="3"/>').format(x(curve[0][0]), y(curve[0][1]))
    return Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(f"{x(a)},{y(b)}" for a, b in curve))


def history(values: Sequence[tuple[int, float, bool]], y_label: str, minimised: bool) -> Markup:
    """The trials of a study (number, value, whether it was pruned), and the best value so far."""
    x = Axis([number for number, _, _ in values], LEFT, WIDTH - RIGHT, whole=True)
    y = Axis([value for _, value, _ in values], HEIGHT - BOTTOM, TOP)
    parts = [axes(x, y, "trial", y_label, short)]
    best: list[tuple[float, float]] = []
    for number, value, pruned in values:
        if pruned:
            continue
        if best and (value >= best[-1][1] if minimised else value <= best[-1][1]):
            continue
        best += [(number, best[-1][1])] if best else []  # a step
        best.append((number, value))
    if best:
        parts.append(line([*best, (values[-1][0], best[-1][1])], x, y, "front"))
    for number, value, pruned in values:
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="4"><title>trial {}: {}{}</title></circle>').format(
                "point pruned" if pruned else "point c0",
                x(number),
                y(value),
                number,
                short(value),
                ", pruned" if pruned else "",
            )
        )
    return svg(f"{y_label} by trial", parts)


def axes(x: Axis, y: Axis, x_label: str, y_label: str, x_text: Text) -> Markup:
    """Grid, ticks and the names of both axes."""
    parts, end = [], -math.inf
    for value, text in tick_texts(x.ticks(), x_text):
        half = DIGIT * len(text) / 2
        if x(value) - half > end and x(value) + half < WIDTH:  # ticks that have room
            end = x(value) + half + 6
            parts.append(
                Markup(
                    '<line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text x="{0}" y="{3}" text-anchor="middle">{4}</text>'
                ).format(x(value), TOP, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 17, text)
            )
    for value, text in tick_texts(y.ticks(), short):
        parts.append(
            Markup(
                '<line x1="{1}" x2="{2}" y1="{0}" y2="{0}"/><text x="{3}" y="{4}" text-anchor="end">{5}</text>'
            ).format(y(value), LEFT, WIDTH - RIGHT, LEFT - 6, y(value) + 4, text)
        )
    parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(WIDTH - RIGHT, HEIGHT - 8, x_label))
    parts.append(
        Markup('<text transform="translate(12 {}) rotate(-90)" text-anchor="end">{}</text>').format(TOP, y_label)
    )
    return Markup('<g class="axes">{}</g>').format(Markup("").join(parts))


def tick_texts(values: Sequence[float], text: Text) -> list[tuple[float, str]]:
    """Ticks and how they are written: with more digits than usual where two would read the same."""
    texts = [text(value) for value in values]
    for digits in range(4, 9):
        if len(set(texts)) < len(texts):
            texts = [text(value, digits) for value in values]
    return list(zip(values, texts, strict=True))


def svg(title: str, parts: Sequence[Markup]) -> Markup:
    """A picture that scales with the page, with a title for those who do not see it."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, escape(title), Markup("").join(parts)
    )


def style_of(rank: int) -> str:
    """The classes of style.css that make what has a rank look like no other."""
    return f"c{rank % COLOURS} p{rank // COLOURS}" if rank < DISTINCT else "cx"


def short(value: float, digits: int = 4) -> str:
    """A number as one reads it on an axis: 0.95, 1,200, 3.5e-05."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return f"{value:.{digits - 2}g}"


def text_of(metric: str) -> Text:
    """How values of a metric are written: accuracies with four decimals, others with four significant digits."""
    return precise if metric.removesuffix("_best").endswith("acc") else significant


def precise(value: float) -> str:
    """An accuracy as it is compared: 0.9412."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1000 else short(value)


def significant(value: float) -> str:
    """A metric of any size as it is compared: 0.01230, 23.41, 12,345, 3.500e-05."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:#.4g}"


def count(value: float, digits: int = 3) -> str:
    """A number of parameters or operations: 980, 68k, 1.2M, 3.1G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.{digits}g}{unit}"
    return f"{value:.0f}"


def duration(seconds: float, digits: int = 3) -> str:
    """A time: 350 ms, 12 s, 3.5 min, 2 h."""
    for limit, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= limit:
            return f"{seconds / limit:.{digits}g} {unit}"
    return f"{seconds * 1000:.{digits}g} ms"


def milliseconds(value: float, digits: int = 3) -> str:
    """A latency."""
    return duration(value / 1000, digits)
