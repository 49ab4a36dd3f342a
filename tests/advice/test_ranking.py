"""The order of nets, and which nets are left out."""

from dataclasses import replace
from typing import Any

import pytest

from src.advice.measurements import Evidence
from src.advice.ranking import rank
from tests.advice.test_estimates import make_request


def facts(net: str, params: int, speed: float | None = 1000.0, task: str = "Classifier", channels: int = 1) -> Any:
    counts = {f"{one}x{size}": [params, float(size**2)] for one in (1, 3) for size in (28, 64)}
    measured = {"train_images_per_second": speed, "latency_ms": None}
    shape = [channels, 28, 28]
    return {"net": net, "task": task, "shape": shape, "params": params, "macs": 784.0, "multiple_of": 1} | {
        "counts": counts,
        **measured,
    }


def evidence(model: str, data: str, value: float, score: str = "acc", shape: tuple[int, ...] = (1, 28, 28)) -> Evidence:
    return Evidence(model, data, shape, score, value, 1, 4, None, None, None, "tasks.json: x")


MODELS = {
    "a_x_10k": facts("X", 10_000),
    "a_x_90k": facts("X", 90_000),
    "b_x_90k": facts("X", 90_000, channels=3),  # the twin for colour
    "a_y_20k": facts("Y", 20_000),
    "a_z_30k": facts("Z", 30_000, speed=None),
    "a_w_40k": facts("W", 40_000, speed=9000.0),
    "a_v_50k": facts("V", 50_000),
    "a_u_60k": facts("U", 60_000, task="Segmentation"),
}
KNOWN = [evidence("a_x_10k", "fashion_mnist", 0.8), evidence("a_y_20k", "fashion_mnist", 0.9)]
KNOWN += [evidence("a_v_50k", "mnist_5k", 0.99), evidence("a_u_60k", "digit_scenes", 0.7, "miou")]


def names(**settings: Any) -> list[str]:
    return [one.name for one in rank(make_request(**settings), MODELS, KNOWN).candidates]


def test_the_nearest_measurement_decides_then_kin_then_other_data_then_cost() -> None:
    assert names(images=50_000) == ["a_y_20k", "a_x_10k", "a_x_90k", "a_v_50k", "a_w_40k", "a_z_30k"]
    assert names(images=4_000)[0] == "a_v_50k"
    assert names(task="segmentation") == ["a_u_60k"]


def test_measurements_with_the_requested_channels_come_first() -> None:
    known = [*KNOWN, evidence("b_x_90k", "fashion_mnist", 0.7, shape=(3, 28, 28))]
    orders = {
        channels: [one.name for one in rank(make_request(images=50_000, channels=channels), MODELS, known).candidates]
        for channels in (1, 3)
    }
    assert orders[1][:2] == ["a_y_20k", "a_x_10k"] and orders[3][:2] == ["b_x_90k", "a_y_20k"]


def test_of_twins_the_measured_or_the_nearest_is_kept() -> None:
    assert "b_x_90k" in names(images=50_000, channels=3) and "a_x_90k" not in names(images=50_000, channels=3)


def test_limits_leave_out_what_exceeds_them_or_is_not_measured() -> None:
    found = rank(make_request(images=50_000, max_params="45k", max_latency_ms=0.4), MODELS, KNOWN)
    assert [one.name for one in found.candidates] == ["a_y_20k", "a_x_10k", "a_w_40k"]
    assert found.left_out == {"max_params": 3, "max_latency_ms, speed not measured": 1}


def test_training_takes_as_long_as_the_run_that_gave_the_score() -> None:
    known = [*KNOWN, replace(evidence("a_w_40k", "fashion_mnist", 0.95), epochs=100)]
    found = rank(make_request(images=55_000), MODELS, known)
    assert {one.name: one.cost.epochs for one in found.candidates[:2]} == {"a_w_40k": 100, "a_y_20k": 4}
    limit = 50 * 55_000 / 9000 / 60  # minutes: enough for half of its run
    limited = rank(make_request(images=55_000, max_minutes=limit), MODELS, known)
    assert [one.name for one in limited.candidates][:1] == ["a_y_20k"] and limited.left_out["max_minutes"] == 1


def test_nets_just_above_the_limits_are_named() -> None:
    found = rank(make_request(images=50_000, max_params="39k"), MODELS, KNOWN)
    assert found.near_misses == ("a_w_40k (params 40,000)",) and "a_w_40k" not in [one.name for one in found.candidates]
    assert rank(make_request(images=50_000, max_params="40k"), MODELS, KNOWN).near_misses == ()


def test_an_impossible_wish_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"No net for task=classification fits max_params=5000: of 7 nets the nearest"
    ) as said:
        rank(make_request(max_params="5k"), MODELS, KNOWN)
    assert str(said.value).endswith("a_x_10k (params 10,000); a_y_20k (params 20,000); a_z_30k (params 30,000).")
    with pytest.raises(ValueError, match=r"fits max_latency_ms=0\.001.*latency_ms 0\.037"):
        rank(make_request(max_latency_ms=0.001), MODELS, KNOWN)
    odd = {name: one | {"multiple_of": 7} for name, one in MODELS.items()}
    with pytest.raises(ValueError, match=r"No net for task=classification takes images of size=64"):
        rank(make_request(size=64), odd, KNOWN)


def test_at_sizes_that_nothing_was_measured_at_the_nets_that_are_meant_for_them_come_first() -> None:
    meant = facts("T", 99) | {"shape": [1, 64, 64]}
    found = rank(make_request(size=64, images=4_000), MODELS | {"a_t_1k": meant}, KNOWN)
    assert found.decided_by is None and [one.name for one in found.candidates][:2] == ["a_t_1k", "a_x_10k"]


def test_data_that_are_equally_near_are_named() -> None:
    known = [evidence("a_x_10k", "sunspots", 0.5), evidence("a_y_20k", "co2", 0.6)]
    found = rank(make_request(), MODELS, known)
    assert found.decided_by == "sunspots" and found.equally_near == ("co2",)


def test_of_errors_the_least_comes_first() -> None:
    models = {"r": facts("R", 1, task="Reconstruction"), "s": facts("S", 2, task="Reconstruction")}
    known = [evidence("r", "mnist_5k", 0.02, "mse"), evidence("s", "mnist_5k", 0.01, "mse")]
    assert [one.name for one in rank(make_request(task="reconstruction"), models, known).candidates] == ["s", "r"]
