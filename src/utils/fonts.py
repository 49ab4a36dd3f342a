"""Letters in pictures of matplotlib: the fonts of this machine that have them."""

from collections.abc import Iterable
from functools import cache


@cache
def letters_of(family: str) -> frozenset[int]:
    """The code points that a font family has; none where it is not here."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        path = findfont(FontProperties(family=[family]), fallback_to_default=False)
        return frozenset(get_font(path).get_charmap())
    except (ValueError, OSError, RuntimeError):  # not here, or not to be read
        return frozenset()


def fonts_for(texts: Iterable[str]) -> tuple[list[str], dict[int, str]]:
    """The font families that texts are drawn with, the usual ones first.

    Returns:
        The families, and what is written, by code point, in place of letters that no font of this machine has.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    from src.utils.predictor import in_ascii

    usual = frozenset(get_font(findfont(FontProperties())).get_charmap())
    lacking = {ord(letter) for letter in "".join(texts) if letter != "\n"} - usual
    families = list(matplotlib.rcParams["font.family"])
    for family in sorted({font.name for font in fontManager.ttflist}, key=lambda name: ("CJK" not in name, name)):
        if not lacking:
            break
        if found := lacking & letters_of(family):
            families.append(family)
            lacking -= found
    return families, {code: in_ascii(chr(code)) for code in lacking}
