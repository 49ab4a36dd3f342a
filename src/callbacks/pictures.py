"""Pictures of samples that are not images: curves of series, and the beginnings of texts."""

import textwrap

import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 64, 128  # size of a drawn picture
MAX_CURVES = 4  # series of more features are shown as grey images
COLOURS = ((0.12, 0.30, 0.55), (0.85, 0.37, 0.01), (0.10, 0.55, 0.30), (0.55, 0.25, 0.60))
LINES, LETTERS = 5, 21  # how much of a text fits into its picture


def as_pictures(samples: Tensor) -> Tensor:
    """Turn samples into pictures (B, C, H, W).

    Args:
        samples: images (B, C, H, W), unchanged; series (B, T, F), as curves or, of many features, as grey images; or
            tokens (B, T), int64, as text.
    """
    if samples.ndim == 4:
        return samples
    if not samples.is_floating_point():
        return draw_texts(samples)
    steps, features = samples.shape[1:]
    if features <= MAX_CURVES:
        return draw_curves(samples)
    pictures = samples.unsqueeze(1)  # (B, 1, T, F): time runs down, as in an image that is read row by row
    return pictures if steps <= features else pictures.transpose(2, 3)


def draw_curves(series: Tensor) -> Tensor:
    """Draw series (B, T, F) on white (B, 3, HEIGHT, WIDTH), each feature in its colour; non-finite values are skipped.

    All curves of a picture share its scale.
    """
    values = series.float().transpose(1, 2)  # (B, F, T)
    finite = values.isfinite()
    low = values.where(finite, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = values.where(finite, -torch.inf).amax(dim=(1, 2), keepdim=True)
    values = ((values - low) / (high - low).clamp(min=1e-12)).where(finite, torch.nan)
    if values.shape[2] < WIDTH:
        values = F.interpolate(values, WIDTH, mode="linear", align_corners=True)
    top, bottom = F.adaptive_max_pool1d(values, WIDTH), -F.adaptive_max_pool1d(-values, WIDTH)  # (B, F, WIDTH)
    following = [F.pad(edge[..., 1:], (0, 1), value=torch.nan) for edge in (bottom, top)]
    top, bottom = torch.fmax(top, following[0]), torch.fmin(bottom, following[1])  # without gaps between columns
    margin, thickness = 3, 0.7
    first, last = ((1 - edge) * (HEIGHT - 1 - 2 * margin) + margin for edge in (top, bottom))  # rows of pixels
    rows = torch.arange(HEIGHT, device=series.device).view(-1, 1)
    drawn = (rows >= first.unsqueeze(2) - thickness) & (rows <= last.unsqueeze(2) + thickness)  # (B, F, HEIGHT, WIDTH)
    pictures = torch.ones(len(series), 3, HEIGHT, WIDTH, device=series.device)
    for feature, colour in zip(range(values.shape[1]), COLOURS, strict=False):
        ink = torch.tensor(colour, device=series.device).view(3, 1, 1)
        pictures = torch.where(drawn[:, feature, None], ink, pictures)
    return pictures


def draw_texts(tokens: Tensor) -> Tensor:
    """Draw the beginnings of texts, given as tokens (B, T) of `src.predictor.to_tokens`: (B, 1, HEIGHT, WIDTH)."""
    import numpy as np
    from PIL import Image, ImageDraw

    from src.predictor import drawable, printable

    pictures = []
    for row in tokens.tolist():
        text = bytes(token - 1 for token in row[: 4 * LINES * LETTERS] if token).decode(errors="ignore")
        picture = Image.new("L", (WIDTH, HEIGHT), "white")
        for number, line in enumerate(textwrap.wrap(printable(" ".join(text.split())), LETTERS)[:LINES]):
            font, line = drawable(line)
            ImageDraw.Draw(picture).text((2, 1 + 12 * number), line, fill="black", font=font)
        pictures.append(torch.from_numpy(np.array(picture, dtype=np.float32) / 255))
    return torch.stack(pictures).unsqueeze(1) if pictures else torch.empty(0, 1, HEIGHT, WIDTH)
