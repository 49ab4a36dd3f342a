"""Windows of a series: split by time, normalised by the training steps, served in an order that can be resumed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from src.data.series import SeriesDataModule

STEPS = 60


class Given(SeriesDataModule):
    """Serves a given series (N, F)."""

    def __init__(self, series: Tensor, **options: Any) -> None:
        sizes = {"features": series.shape[1], "window": 6, "horizon": 3, "season": 4, "val_size": 10, "test_size": 8}
        super().__init__(**{**sizes, "batch_size": 5, **options})
        self.series = series

    def load(self) -> tuple[Tensor, list[str]]:
        return self.series.double(), [f"column {place}" for place in range(self.series.shape[1])]


def numbered(steps: int = STEPS) -> Tensor:
    """Make a column that counts the steps, and one of growing noise: (N, 2)."""
    count = torch.arange(float(steps))
    return torch.stack([count + count % 4, (1 + count) * torch.randn(steps)], dim=1)


def prepared(series: Tensor | None = None, **options: Any) -> Given:
    data = Given(numbered() if series is None else series, **options)
    data.setup("fit")
    return data


def in_units(data: Given, values: Tensor) -> Tensor:
    return values.double() * data.std + data.mean


def test_every_window_is_followed_by_its_targets_and_no_target_is_in_two_splits() -> None:
    data = prepared()
    bounds = {"train": (0, 42), "val": (42, 52), "test": (52, 60)}
    for name, split in data.splits().items():
        first, end = bounds[name]
        inputs, targets = split.tensors
        starts = range(max(first - 6, 0), end - 8)
        assert len(inputs) == len(targets) == len(starts)
        for start, window, target in zip(starts, inputs, targets, strict=True):
            found, wanted = in_units(data, torch.cat([window, target])), data.series[start : start + 9].double()
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-5)
            assert first <= start + 6 and start + 9 <= end


def test_only_training_steps_decide_on_the_normalisation_and_the_scale_of_errors() -> None:
    data = prepared()
    changed = data.series.clone()
    changed[42:] *= -7
    other = prepared(changed)
    for name in ("mean", "std", "naive_mae"):
        assert torch.equal(getattr(data, name), getattr(other, name))
    train = data.series[:42].double()
    torch.testing.assert_close(data.mean, train.mean(dim=0))
    torch.testing.assert_close(data.std, train.std(dim=0, correction=0))
    torch.testing.assert_close(data.naive_mae, (train[4:] - train[:-4]).abs().mean(dim=0))


def test_windows_are_views_of_one_series() -> None:
    data = prepared()
    tensors = [tensor for split in data.splits().values() for tensor in split.tensors]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    assert tensors[0].untyped_storage().nbytes() == STEPS * 2 * 4


def test_batches_have_the_shapes_of_windows_and_targets_and_only_training_is_shuffled() -> None:
    data = prepared()
    inputs, targets = next(iter(data.train_dataloader()))
    assert inputs.shape == (5, 6, 2) and targets.shape == (5, 3, 2) and inputs.dtype == targets.dtype == torch.float32
    for loader, split in ((data.val_dataloader(), data.data_val), (data.test_dataloader(), data.data_test)):
        assert torch.equal(torch.cat([inputs for inputs, _ in loader]), split.tensors[0])
    shuffled = torch.cat([inputs for inputs, _ in data.train_dataloader()])
    assert not torch.equal(shuffled, data.data_train.tensors[0])
    assert torch.equal(shuffled.flatten(1).sort(dim=0).values, data.data_train.tensors[0].flatten(1).sort(dim=0).values)
    unshuffled = prepared(shuffle=False, drop_last=True)
    assert [len(inputs) for inputs, _ in unshuffled.train_dataloader()] == [5] * 6
    assert torch.equal(next(iter(unshuffled.train_dataloader()))[0], unshuffled.data_train.tensors[0][:5])


def test_an_epoch_follows_from_seed_and_epoch_and_goes_on_where_it_was_left() -> None:
    def epoch(loader: Any, number: int) -> list[Tensor]:
        loader.set_epoch(number)
        return [inputs for inputs, _ in loader]

    series = numbered()
    loader = prepared(series, seed=3).train_dataloader()
    orders = [torch.cat(epoch(loader, number)) for number in (0, 1)]
    assert not torch.equal(*orders)
    torch.manual_seed(9)
    stopped = prepared(series, seed=3).train_dataloader()
    stopped.set_epoch(1)
    batches = iter(stopped)
    begun = [next(batches)[0] for _ in range(2)]
    resumed = prepared(series, seed=3).train_dataloader()
    resumed.load_state_dict(stopped.state_dict())
    assert torch.equal(torch.cat([*begun, *epoch(resumed, 1)]), orders[1])


def test_what_a_card_says_is_plain_and_checksums_tell_series_apart() -> None:
    data = prepared()
    card = data.input_card()
    assert {key: card[key] for key in ("input", "length", "features", "season")} == {
        "input": "series",
        "length": 6,
        "features": 2,
        "season": 4,
    }
    assert card["columns"] == ["column 0", "column 1"]
    assert card["mean"] == data.mean.tolist() and card["std"] == data.std.tolist()
    assert card["naive_mae"] == data.naive_mae.tolist()
    changed = data.series.clone()
    changed[-1] += 1  # in the test's last targets alone
    before, after = data.checksums(), prepared(changed).checksums()
    assert {name for name in before if before[name] != after[name]} == {"test"}


def test_sizes_below_1_are_shares_of_all_steps() -> None:
    data = prepared(val_size=0.2, test_size=0.1)
    assert [len(split) for split in data.splits().values()] == [42 - 8, 12 - 2, 6 - 2]
    without = prepared(val_size=0)
    assert len(without.data_val) == 0 and list(without.val_dataloader()) == []
    assert set(without.checksums()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 40}, r"60 steps, of which val_size=10 and test_size=8 leave 42 .*window=40 and horizon=3 need 43"),
        ({"val_size": 60}, r"leave 0 for training"),
        ({"test_size": 2}, r"test_size=2 steps are fewer than horizon=3"),
        ({"features": 1}, r"columns column 0, column 1: set data.features=2 instead of 1"),
    ],
)
def test_a_series_that_does_not_fit_is_refused_with_its_numbers(options: dict[str, Any], sentence: str) -> None:
    assert len(prepared(window=39).data_train) == 1  # which just fits
    with pytest.raises(ValueError, match=sentence):
        prepared(**options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "window=0 must be at least 1"),
        ({"horizon": 0}, "horizon=0 must be at least 1"),
        ({"season": 0}, "season=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"season": 7}, "window=6 is shorter than season=7"),
        ({"val_size": -1}, "val_size=-1 must be a number of steps"),
        ({"test_size": 1.5}, "test_size=1.5 must be a number of steps"),
    ],
)
def test_a_value_out_of_range_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Given(numbered(), **options)


@pytest.mark.parametrize("values", [torch.zeros(STEPS), torch.full((STEPS,), 0.1), torch.arange(STEPS) % 4])
def test_a_column_that_only_repeats_itself_is_refused(values: Tensor) -> None:
    series = numbered()
    series[:, 1] = values
    with pytest.raises(ValueError, match=r"column 1 repeats itself exactly every season=4 steps in training"):
        prepared(series)
