"""Pictures of series and texts."""

import pytest
import torch
from torch import Tensor

from src.callbacks.image_report import cat_padded, encode_pngs
from src.callbacks.pictures import HEIGHT, WIDTH, as_pictures, draw_curves
from src.predictor import to_tokens


def ink(picture: Tensor) -> Tensor:
    """Return the mean row of the non-white pixels of a picture (C, H, W), by column (W,)."""
    dark = (picture < 1).any(dim=0).float()  # (H, W)
    return (dark * torch.arange(len(dark)).view(-1, 1)).sum(dim=0) / dark.sum(dim=0)


def test_images_are_pictures_and_many_features_a_grey_image() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert as_pictures(images) is images
    rows = torch.rand(2, 28, 28)
    assert torch.equal(as_pictures(rows), rows.unsqueeze(1))  # upright: the first step is the top row
    spectrogram = torch.rand(2, 100, 8)
    assert torch.equal(as_pictures(spectrogram), spectrogram.transpose(1, 2).unsqueeze(1))


@pytest.mark.parametrize("steps", [2, 7, WIDTH, 784])
def test_a_rising_series_is_drawn_from_the_lower_left_to_the_upper_right(steps: int) -> None:
    picture = as_pictures(torch.linspace(-5, 90, steps).view(1, -1, 1))[0]
    assert picture.shape == (3, HEIGHT, WIDTH)
    path = ink(picture)
    assert path.isfinite().all() and (path.diff() <= 0).all()  # in every column, and never down
    assert path[0] > HEIGHT - 6 and path[-1] < 6


def test_short_peaks_of_long_series_are_seen_and_curves_have_no_gaps() -> None:
    series = torch.zeros(1, 5000, 1)
    series[0, 2500] = 1
    picture = draw_curves(series)[0]
    dark = (picture < 1).any(dim=0)
    assert dark[4].any()  # the peak
    column = dark[:, dark[4].nonzero()[0, 0]].nonzero()
    assert len(column) == column.max() - column.min() + 1 > HEIGHT - 10


def test_a_jump_between_two_columns_is_drawn_as_a_line() -> None:
    series = (torch.arange(10 * WIDTH) >= 5 * WIDTH).float().view(1, -1, 1)  # ten steps a column, half of them 0
    column = (draw_curves(series)[0] < 1).any(dim=0)[:, WIDTH // 2 - 1].nonzero()
    assert len(column) == column.max() - column.min() + 1 > HEIGHT - 10


def test_several_features_share_a_scale_and_what_is_nan_is_left_out() -> None:
    series = torch.full((1, 100, 2), torch.nan)
    series[0, :50, 0], series[0, 50:, 1] = 0.0, 10.0  # a history, and what follows
    picture = draw_curves(series)[0]
    path, colours = ink(picture), [picture[:, :, column].flatten(1).T.unique(dim=0) for column in (5, 120)]
    assert path[:60].min() > HEIGHT - 6 and path[70:].max() < 6
    assert not torch.equal(colours[0], colours[1])


def test_a_constant_or_an_unknown_series_is_drawn_all_the_same() -> None:
    assert ink(draw_curves(torch.full((1, 9, 1), 3.0))[0]).isfinite().all()
    assert draw_curves(torch.full((2, 9, 1), torch.nan)).min() == 1


def test_a_text_is_legible_in_its_picture() -> None:
    texts = [to_tokens("Hello"), to_tokens("a long text " * 40), to_tokens("日本\x1b[0m"), to_tokens("é" * 300)[:-1]]
    length = max(map(len, texts))
    tokens = torch.stack([torch.nn.functional.pad(torch.from_numpy(text), (0, length - len(text))) for text in texts])
    pictures = as_pictures(tokens)
    assert pictures.shape == (4, 1, HEIGHT, WIDTH)
    dark = (pictures < 0.5).flatten(1).sum(dim=1)
    assert (dark > 10).all() and dark[1] > 5 * dark[0]
    assert not (pictures[0, 0, 16:] < 1).any()  # one line
    assert len(encode_pngs(pictures)) == 4
    assert as_pictures(torch.zeros(1, 4, dtype=torch.long)).min() == 1  # no text
    assert as_pictures(torch.zeros(0, 4, dtype=torch.long)).shape == (0, 1, HEIGHT, WIDTH)  # no mistakes to draw


def test_samples_of_different_lengths_are_padded_where_they_meet() -> None:
    joined = cat_padded(torch.ones(2, 3, dtype=torch.long), torch.ones(1, 5, dtype=torch.long))
    assert joined.tolist() == [[1, 1, 1, 0, 0]] * 2 + [[1] * 5]
    images = torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4)
    assert torch.equal(cat_padded(*images), torch.cat(images))
