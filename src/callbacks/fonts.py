"""Find installed fonts that have the glyphs of matplotlib texts."""

from collections.abc import Iterable
from functools import cache
from unicodedata import category

REGULAR = (400, "normal", "regular")  # font weights that matplotlib finds by the family name alone


@cache
def code_points(path: str) -> frozenset[int]:
    """Return the code points of a font; none if the file cannot be read."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def fonts_for(texts: Iterable[str]) -> tuple[list[str], dict[int, str]]:
    """Return the font families to draw texts with, the default ones first.

    Returns:
        The families, and replacements, by code point, for characters that no installed font has.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    from src.predictor import in_ascii

    families = list(matplotlib.rcParams["font.family"])
    missing = {ord(character) for character in "".join(texts) if character != "\n"} - code_points(
        findfont(FontProperties())
    )
    known = {font.name: font.fname for font in fontManager.ttflist if font.style == "normal" and font.weight in REGULAR}
    for name in sorted(known, key=lambda name: ("CJK" not in name, name)) if missing else ():
        if not name.startswith("Last Resort") and (covered := missing & code_points(known[name])):  # which draws boxes
            families.append(name)
            missing -= covered
    # no font draws control characters, and matplotlib's warning would print them to the terminal
    return families, {code: "?" if category(chr(code)) == "Cc" else in_ascii(chr(code)) for code in missing}
