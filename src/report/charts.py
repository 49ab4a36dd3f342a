"""Self-contained SVG charts: scatter plots with a Pareto front, curves, and the history of a study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from src.report.curves import Curve
from src.report.formats import Formatter, format_tick, metric_formatter
from src.report.statistics import pareto_front

WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 46  # margins for the axis labels
# style.css defines the colours and, to distinguish ranks of the same colour, the dashes of lines and shapes of points
COLOURS, PATTERNS = 8, 3
DISTINCT = COLOURS * PATTERNS  # higher ranks are grey
DIGIT_WIDTH = 7.2
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """A configuration in a scatter plot; `rank` is its row in the table, from 0."""

    x: float
    y: float
    name: str
    rank: int


@dataclass(frozen=True)
class Series:
    """The mean curve of a configuration, and the curves of its seeds."""

    name: str
    rank: int
    mean: Curve
    seeds: Sequence[Curve] = ()


class Axis:
    """Map values to pixels.

    Args:
        values: the values to show.
        start: pixel of the lowest value.
        end: pixel of the highest value.
        log: use a logarithmic scale.
        margin: fraction of the axis to leave free at each end.
        integer: put ticks at integers only.
    """

    def __init__(
        self,
        values: Sequence[float],
        start: float,
        end: float,
        log: bool = False,
        margin: float = 0.06,
        integer: bool = False,
    ) -> None:
        self.log, self.integer, self.start, self.end = log, integer, start, end
        low, high = self._scale(min(values)), self._scale(max(values))
        padding = (high - low) * margin if high > low else abs(high) * 0.05 or 0.5
        self.low, self.high = low - padding, high + padding

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (self._scale(value) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round values along the axis."""
        low, high = self.low, self.high
        if self.log:
            factors = (1, 2, 5) if high - low < 3 else (1,)
            powers = range(math.floor(low), math.ceil(high) + 1)
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
            if len(ticks) > 1:
                return ticks
            low, high = 10**low, 10**high  # all values are close together
        power = 10.0 ** math.floor(math.log10((high - low) / 5))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / 5)
        step = max(step, 1) if self.integer else step
        return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def scatter(
    points: Sequence[Point], x_label: str, y_label: str, x_format: Formatter, minimised: bool = False
) -> Markup:
    """Draw a metric against a cost (lower is better) on a logarithmic axis, and join the Pareto front."""
    x = Axis([point.x for point in points], LEFT, WIDTH - RIGHT, log=True, margin=0.12)
    y = Axis([point.y for point in points], HEIGHT - BOTTOM, TOP, margin=0.12)
    front = [points[i] for i in pareto_front([(point.x, -point.y if minimised else point.y) for point in points])]
    parts = [axes(x, y, x_label, y_label, x_format)]
    if len(front) > 1:
        parts.append(line([(point.x, point.y) for point in front], x, y, "front"))
    for point in sorted(points, key=lambda point: -point.rank):  # the best on top
        title = f"{point.name}: {x_format(point.x)}, {metric_formatter(y_label)(point.y)}"
        parts.append(marker(point.rank, x(point.x), y(point.y), title, point in front))
    taken: list[Box] = [(x(p.x) - 6, y(p.y) - 6, x(p.x) + 6, y(p.y) + 6) for p in points]
    # label the front first, then the others except grey ones, of which there may be hundreds
    for point in [*front, *(point for point in points if point.rank < DISTINCT and point not in front)]:
        if place := free_place(x(point.x), y(point.y), f"{point.rank + 1}", taken):
            parts.append(Markup('<text class="name" x="{}" y="{}">{}</text>').format(*place, point.rank + 1))
    return svg(f"{y_label} against {x_label}", parts)


def marker(rank: int, x: float, y: float, title: str, on_front: bool) -> Markup:
    """Draw a point as a circle, a square or a triangle, depending on its rank."""
    tag, shape = (
        ("circle", f'cx="{x}" cy="{y}" r="5.5"'),
        ("path", f'd="M{x - 5:.1f} {y - 5:.1f}h10v10h-10z"'),
        ("path", f'd="M{x} {y - 7:.1f}l6 11h-12z"'),
    )[rank // COLOURS if rank < DISTINCT else 0]
    classes = f"{style_of(rank)} point" + (" best" if on_front else "")
    return Markup('<{0} {1} class="{2}"><title>{3}</title></{0}>').format(tag, Markup(shape), classes, title)


def free_place(x: float, y: float, text: str, taken: list[Box]) -> tuple[float, float] | None:
    """Find a place for a point's label that overlaps nothing, and add it to `taken`; None if there is none."""
    width = DIGIT_WIDTH * len(text)
    for left, base in ((x + 8, y + 4), (x - 8 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 19)):
        top, right, bottom = base - 11, left + width, base + 2
        inside = left > LEFT and right < WIDTH and top > 0 and bottom < HEIGHT - BOTTOM + 8
        if inside and not any(left < box[2] and box[0] < right and top < box[3] and box[1] < bottom for box in taken):
            taken.append((left, top, right, bottom))
            return round(left, 1), round(base, 1)
    return None


def lines(series: Sequence[Series], x_label: str, y_label: str) -> Markup:
    """Draw curves, with a group for each series that the page can hide; empty markup if there are none."""
    points = [point for one in series for curve in (one.mean, *one.seeds) for point in curve]
    if not points:
        return Markup("")
    x = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, margin=0.02, integer=True)
    y = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [axes(x, y, x_label, y_label, format_tick)]
    group = Markup('<g class="series {}" data-series="{}"><title>{}</title>{}{}</g>')
    for one in reversed(series):  # the best on top
        seeds = Markup("").join(line(curve, x, y, "thin") for curve in one.seeds if len(curve) > 1)
        parts.append(group.format(style_of(one.rank), one.rank, one.name, seeds, line(one.mean, x, y, "mean")))
    return svg(f"{y_label} by {x_label}", parts)


def line(curve: Curve, x: Axis, y: Axis, css_class: str) -> Markup:
    """Draw a curve; a single point is drawn as a dot."""
    if len(curve) == 1:
        return Markup('<circle cx="{}" cy="{}" r="3"/>').format(x(curve[0][0]), y(curve[0][1]))
    points = " ".join(f"{x(a)},{y(b)}" for a, b in curve)
    return Markup('<polyline class="{}" points="{}"/>').format(css_class, points)


def history(trials: Sequence[tuple[int, float, bool]], y_label: str, minimised: bool) -> Markup:
    """Draw the trials of a study (number, value, whether it was pruned), and the best value so far."""
    x = Axis([number for number, _, _ in trials], LEFT, WIDTH - RIGHT, integer=True)
    y = Axis([value for _, value, _ in trials], HEIGHT - BOTTOM, TOP)
    parts = [axes(x, y, "trial", y_label, format_tick)]
    best: Curve = []
    for number, value, pruned in trials:
        if not pruned and (not best or (value < best[-1][1] if minimised else value > best[-1][1])):
            best += [(number, best[-1][1])] if best else []  # a step
            best.append((number, value))
    if best:
        parts.append(line([*best, (trials[-1][0], best[-1][1])], x, y, "front"))
    dot = Markup('<circle class="point {}" cx="{}" cy="{}" r="4"><title>trial {}: {}{}</title></circle>')
    for number, value, pruned in trials:
        css_class, suffix = ("pruned", ", pruned") if pruned else ("c0", "")
        parts.append(dot.format(css_class, x(number), y(value), number, format_tick(value), suffix))
    return svg(f"{y_label} by trial", parts)


def axes(x: Axis, y: Axis, x_label: str, y_label: str, x_format: Formatter) -> Markup:
    """Draw the grid, the ticks and the labels of both axes."""
    parts, end = [], -math.inf
    tick = Markup('<line x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="{}">{}</text>')
    for value, text in tick_texts(x.ticks(), x_format):
        place, half = x(value), DIGIT_WIDTH * len(text) / 2
        if place - half > end and place + half < WIDTH:  # leave out labels that would overlap
            end = place + half + 6
            bottom = HEIGHT - BOTTOM
            parts.append(tick.format(place, place, TOP, bottom, place, bottom + 17, "middle", text))
    for value, text in tick_texts(y.ticks(), format_tick):
        place = y(value)
        parts.append(tick.format(LEFT, WIDTH - RIGHT, place, place, LEFT - 6, place + 4, "end", text))
    label = Markup('<text transform="translate({} {}) rotate({})" text-anchor="end">{}</text>')
    parts += [label.format(WIDTH - RIGHT, HEIGHT - 8, 0, x_label), label.format(12, TOP, -90, y_label)]
    return Markup('<g class="axes">{}</g>').format(Markup("").join(parts))


def tick_texts(values: Sequence[float], formatter: Formatter) -> list[tuple[float, str]]:
    """Pair ticks with their labels, with more digits than usual if two labels would be equal."""
    texts = [formatter(value) for value in values]
    for digits in range(4, 9):
        if len(set(texts)) < len(texts):
            texts = [formatter(value, digits) for value in values]
    return list(zip(values, texts, strict=True))


def svg(title: str, parts: Sequence[Markup]) -> Markup:
    """Wrap elements in an SVG image that scales with the page, with a title for screen readers."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def style_of(rank: int) -> str:
    """Return the CSS classes for the colour and pattern of a rank."""
    return f"c{rank % COLOURS} p{rank // COLOURS}" if rank < DISTINCT else "cx"
