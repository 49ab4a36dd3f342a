"""Names in pictures are drawn with a font that has their characters, or in ASCII."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from src.callbacks import fonts
from src.callbacks.image_report import confusion_figure, image_grid

CHARACTER = "\U000f0041"  # of the private use area, which no installed font has


@pytest.fixture
def own_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register a font with a single character, a black square, with matplotlib."""
    pen = TTGlyphPen(None)
    for move, *points in [("moveTo", (0, 0)), ("lineTo", (0, 900)), ("lineTo", (900, 900)), ("lineTo", (900, 0))]:
        getattr(pen, move)(*points)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(CHARACTER): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    fonts.code_points.cache_clear()
    yield "Squares"
    fonts.code_points.cache_clear()


def drawn(figure: object) -> np.ndarray:
    """Return the pixels of a figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png")  # type: ignore[attr-defined]
    return np.asarray(Image.open(content).convert("L"))


def test_a_font_with_the_characters_is_added(own_font: str) -> None:
    families, written = fonts.fonts_for(["cat", CHARACTER])
    assert families[-1] == own_font and len(families) == 2 and written == {}
    assert fonts.fonts_for(["cat"])[0] == families[:1]


def test_characters_without_a_font_are_written_in_ascii() -> None:
    families, written = fonts.fonts_for(["cat", CHARACTER])
    assert written == {ord(CHARACTER): "\\U000f0041"} and families == fonts.fonts_for([])[0]


@pytest.mark.parametrize("has_font", [True, False])
def test_pictures_are_drawn_without_a_warning(has_font: bool, request: pytest.FixtureRequest) -> None:
    if has_font:
        request.getfixturevalue("own_font")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = image_grid(torch.zeros(1, 1, 4, 4), [CHARACTER])
        shown = drawn(grid)
        drawn(confusion_figure(torch.eye(2), ["cat", 4 * CHARACTER]))
    assert grid.axes[0].texts[0].get_text() == (CHARACTER if has_font else "\\U000f0041")
    black = (shown[: shown.shape[0] // 4] < 50).sum()
    assert black > 40  # the square, or the ASCII, was drawn
