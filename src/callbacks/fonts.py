"""Find installed fonts with the glyphs that matplotlib figures need."""

from collections.abc import Iterable
from functools import cache
from unicodedata import category

PLAIN = (400, "normal", "regular")  # the weight of a font that matplotlib finds by the name of its family alone


@cache
def letters_of(path: str) -> frozenset[int]:
    """The code points that a font has; none where it cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def fonts_for(texts: Iterable[str]) -> tuple[list[str], dict[int, str]]:
    """The font families that texts are drawn with, the usual ones first.

    Returns:
        The families, and what is written, by code point, in place of letters that no font of this machine has.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    from src.predictor import in_ascii

    families = list(matplotlib.rcParams["font.family"])
    lacking = {ord(letter) for letter in "".join(texts) if letter != "\n"} - letters_of(findfont(FontProperties()))
    known = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal" and font.weight in PLAIN}
    for name in sorted(known, key=lambda name: ("CJK" not in name, name)) if lacking else ():
        if not name.startswith("Last Resort") and (found := lacking & letters_of(known[name])):  # that draws boxes
            families.append(name)
            lacking -= found
    # a control character is drawn by none, and matplotlib's warning would hand it to the terminal
    return families, {code: "?" if category(chr(code)) == "Cc" else in_ascii(chr(code)) for code in lacking}
