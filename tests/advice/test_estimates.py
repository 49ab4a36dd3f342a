"""Costs at other image sizes, against counts of nets built for them."""

from typing import Any

import pytest

from src.advice.estimates import ESTIMATED, UNKNOWN, cost_of, counts_at, epochs_for
from src.advice.measurements import read_models
from src.advice.request import read_request
from src.models.components.simple_cnn import SimpleCNN
from src.models.components.simple_dense_net import SimpleDenseNet
from src.models.counting import count_macs, count_parameters
from src.models.example_inputs import example_inputs
from tests.advice.test_request import NOTHING

FACTS: dict[str, Any] = {"shape": [1, 28, 28], "params": 100, "macs": 80.0, "multiple_of": 4}
FACTS |= {"counts": {"1x28": [100, 100.0], "1x32": [110, 130.0], "3x32": [300, 260.0]}}
FACTS |= {"train_images_per_second": 1000.0, "latency_ms": None}


def make_request(**settings: Any) -> Any:
    return read_request(NOTHING | settings)


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("mnist_cnn_68k", lambda size: SimpleCNN(in_channels=1, image_size=size, num_classes=10)),
        ("mnist_sdn_68k", lambda size: SimpleDenseNet(in_channels=1, image_size=size, num_classes=10)),
    ],
    ids=["cnn", "dense"],
)
def test_sizes_between_those_that_were_counted_lie_on_a_line(name: str, net: Any) -> None:
    """Interpolating the counts at 64 and 96 pixels gives the count at 80."""
    counts = {}
    for size in (64, 80, 96):
        built = net(size)
        counts[f"1x{size}"] = [count_parameters(built), count_macs(built, example_inputs(1, (1, size, size)))]
    params, macs = counts.pop("1x80")
    found = counts_at({"multiple_of": 1, "counts": counts}, 1, 80)
    assert found is not None and found[0] == pytest.approx(params) and found[1] == pytest.approx(macs, rel=0.01)
    facts = read_models()[name]
    assert counts_at(facts, *facts["shape"][:2]) == (facts["params"], facts["macs"])


def test_costs_follow_the_counts() -> None:
    own, other = cost_of(FACTS, make_request()), cost_of(FACTS, make_request(size=32, channels=3, images=110_000))
    assert own is not None and other is not None
    assert (own.params, own.macs, own.scaled, own.minutes) == (100, 80, False, None)
    assert own.latency_ms == pytest.approx(1 / 3) and own.latency_from == ESTIMATED
    assert (other.params, other.macs, other.scaled) == (300, 80 * 2.6, True)
    assert other.train_images_per_second == pytest.approx(1000 / 2.6)
    assert other.latency_ms == pytest.approx(2.6 / 3)
    assert other.epochs == 4 and other.minutes == pytest.approx(4 * 110_000 * 2.6 / 1000 / 60)
    assert not own.coarser and not other.coarser
    longer = cost_of(FACTS, make_request(images=110_000), run=(100, 55_000))
    assert longer is not None and longer.epochs == 50
    assert longer.minutes == pytest.approx(50 * 110_000 / 1000 / 60)
    unmeasured = cost_of(FACTS | {"train_images_per_second": None}, make_request(images=10))
    assert unmeasured is not None and (unmeasured.latency_from, unmeasured.minutes) == (UNKNOWN, None)
    assert cost_of(FACTS, make_request(size=30)) is None  # no multiple of 4
    assert cost_of(FACTS, make_request(size=64, channels=3)) is None  # one count alone cannot be extrapolated


def test_small_data_get_more_epochs() -> None:
    assert [epochs_for(number) for number in (100, 10_000, 55_000, 1_000_000)] == [30, 22, 4, 4]
    long_run = (100, 55_000)
    assert [epochs_for(number, long_run) for number in (100, 55_000, 110_000, 10_000_000)] == [100, 100, 50, 4]
    assert epochs_for(10_000, (2, 5_000)) == 2  # not more than that run had, even if it had fewer than usual


def test_fewer_macs_of_coarser_layers_promise_no_less_time() -> None:
    """A net with larger strides for larger images: a quarter of the MACs at four times the pixels."""
    facts = FACTS | {"counts": {"1x28": [100, 80.0], "1x56": [100, 20.0]}}
    cost = cost_of(facts, make_request(size=56, channels=1))
    assert cost is not None and cost.coarser and cost.macs == pytest.approx(20)
    assert cost.train_images_per_second == 1000 and cost.latency_ms == pytest.approx(1 / 3)
