"""Charts: what is drawn, and where."""

import re

import pytest

from src.report.charts import (
    DISTINCT,
    HEIGHT,
    WIDTH,
    Axis,
    Point,
    Series,
    free_place,
    history,
    lines,
    scatter,
    style_of,
    tick_texts,
)
from src.report.formats import format_count


def test_an_axis_maps_values_to_places_and_has_round_ticks() -> None:
    axis = Axis([0, 10], 0, 100, margin=0)
    assert (axis(0), axis(5), axis(10)) == (0, 50, 100) and axis.ticks() == [0, 2, 4, 6, 8, 10]
    log = Axis([1, 100], 0, 100, log=True, margin=0)
    assert (log(1), log(10), log(100)) == (0, 50, 100) and log.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert Axis([1, 3], 0, 100, integer=True).ticks() == [1, 2, 3]
    flat = Axis([3, 3], 0, 100)
    assert flat(3) == 50 and flat.ticks()


@pytest.mark.parametrize("sizes", [(67_978, 68_234), (1.01e5, 1.02e5, 1.09e5), (5e6, 5e6), (9.99e8, 1.001e9)])
def test_an_axis_of_nets_of_nearly_one_size_has_ticks(sizes: tuple[float, ...]) -> None:
    axis = Axis(sizes, 0, 100, log=True, margin=0.12)
    ticks = axis.ticks()
    assert 2 <= len(ticks) < 10 and all(0 <= axis(tick) <= 100 for tick in ticks) and ticks == sorted(ticks)
    texts = [text for _, text in tick_texts(ticks, format_count)]
    assert len(set(texts)) == len(ticks), texts


def test_the_first_24_look_different_and_the_rest_is_grey() -> None:
    assert len({style_of(rank) for rank in range(DISTINCT)}) == DISTINCT == 24
    assert {style_of(rank) for rank in range(DISTINCT, 99)} == {"cx"}
    drawn = [scatter([Point(1, 1, "", rank)], "", "", format_count) for rank in (0, 8, 16)]
    shapes = {re.sub(r"[\d.]+", "", found) for one in drawn for found in re.findall(r"<(?:circle|path)[^>]+", one)}
    assert len(shapes) == 3


@pytest.mark.parametrize("values", [[0.0], [-5, -5], [1e-9, 2e-9], [1e12], [0.1, 0.3]])
def test_any_values_have_an_axis(values: list[float]) -> None:
    axis = Axis(values, 0, 100)
    assert all(0 <= axis(value) <= 100 for value in values) and 1 <= len(axis.ticks()) < 15


def test_points_have_numbers_titles_and_a_front() -> None:
    points = [
        Point(10, 0.5, "a", 0),
        Point(100, 0.9, "b", 1),
        Point(1000, 0.7, "c<d", 20),
        Point(1000, 0.6, "e", DISTINCT),
    ]
    drawn = scatter(points, "parameters", "test/acc", format_count)
    assert (
        drawn.count('r="5.5"') == 3
        and drawn.count("<path") == 1
        and drawn.count(" best") == 2
        and 'class="front"' in drawn
    )
    assert "<title>c&lt;d: 1k, 0.7000</title>" in drawn and 'class="cx point"' in drawn
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)
    assert (
        scatter(points, "parameters", "test/loss", format_count, minimised=True).count(" best") == 1
    )  # the first beats both
    assert places[-1] == min(places) and places[-1][1] == max(y for _, y in places)  # cheap and bad: left and below


def test_labels_do_not_hide_one_another() -> None:
    taken: list[tuple[float, float, float, float]] = []
    found = [free_place(200, 150, "1", taken) for _ in range(6)]
    assert found[0] is not None and len({place for place in found if place}) == len(taken) < 6 and found[-1] is None


def test_curves_are_groups_that_can_be_hidden() -> None:
    series = [Series("a", 0, [(1, 0.5), (2, 0.6)], [[(1, 0.4), (2, 0.5)]]), Series("b", 1, [(1, 0.5)])]
    drawn = lines(series, "epoch", "val/acc")
    assert re.findall(r'data-series="(\d)"', drawn) == ["1", "0"]
    assert drawn.count('class="thin"') == 1 and drawn.count('class="mean"') == 1 and drawn.count("<circle") == 1
    assert lines([], "epoch", "val/acc") == "" == lines([Series("a", 0, [])], "epoch", "val/acc")


@pytest.mark.parametrize(("minimised", "steps"), [(False, [0.2, 0.2, 0.6, 0.6]), (True, [0.2, 0.2, 0.1, 0.1])])
def test_the_best_so_far_never_gets_worse(minimised: bool, steps: list[float]) -> None:
    values = [(0, 0.2, False), (1, 0.6, minimised), (2, 0.1, not minimised), (3, 0.4, True), (4, 0.2, False)]
    drawn = history(values, "x", minimised)
    (points,) = re.findall(r'class="front" points="([^"]+)"', drawn)
    axis = Axis([value for _, value, _ in values], HEIGHT - 46, 12)
    assert [float(point.split(",")[1]) for point in points.split()] == [axis(step) for step in steps]
    assert drawn.count('class="point pruned"') == 2 and "trial 3: 0.4, pruned" in drawn
