"""Draw the stages of a net as SVG: a box for each, arrows, and arcs at the side for skip connections."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from src.cards.text import format_sees, format_shape
from src.report.formats import format_count, format_integer

WIDTH, BOX, HEIGHT, GAP, TOP = 400, 300, 50, 22, 34
LEFT = 8  # left edge of the boxes; arcs are to their right
LANES, LANE = 6, 13  # maximum number of arcs side by side, and the width of each
LETTER = 6.9  # approximate width of a letter

# for the standalone file; on the page, the page's colours apply
STYLE = """
svg { font: 12px system-ui, sans-serif; background: #fff; }
svg text { fill: #5b6472; } svg .name { fill: #1d2129; font-weight: 600; }
.stage { fill: #f6f7f9; stroke: #c4cad2; } .weight { fill: #0a66c2; }
.flow { fill: none; stroke: #5b6472; stroke-width: 1.3; } .skip { stroke: #c2500a; }
.tip { fill: #5b6472; } .skip.tip { fill: #c2500a; }
@media (prefers-color-scheme: dark) {
  svg { background: #15181d; } svg text { fill: #a3acba; } svg .name { fill: #e6e9ee; }
  .stage { fill: #1d2128; stroke: #4a515d; } .weight { fill: #6cb0f7; }
  .flow { stroke: #a3acba; } .skip { stroke: #f59a55; } .tip { fill: #a3acba; } .skip.tip { fill: #f59a55; }
}
"""


def diagram(card: Mapping[str, Any], standalone: bool = False) -> Markup:
    """Draw the stages of a card, from the input at the top to the output at the bottom.

    The length of the bar at the bottom of a box is its share of the parameters.
    """
    stages = card["stages"]
    total = max(card["totals"]["params"], 1)
    bottom = TOP + len(stages) * (HEIGHT + GAP)
    parts = [f'<text class="name" x="{LEFT}" y="16">input {format_shape(card["input_shape"])}</text>']
    for number, one in enumerate(stages):
        parts += draw_stage(one, top_of(number), total)
    ends = [-1] * LANES  # the stage at which the last arc in each lane ends
    for target, one in enumerate(stages):
        for source in one["sources"]:
            if source == target - 1:
                parts += arrow(target)
            else:
                lane = next((lane for lane, end in enumerate(ends) if end <= source), LANES - 1)
                ends[lane] = target
                parts += arc(source, target, lane)
    about = f"The stages of {card['name']}: " + ", ".join(one["name"] for one in stages)
    style = f"<style>{STYLE}</style>" if standalone else ""
    size = f'width="{WIDTH}" height="{bottom}" ' if standalone else ""
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}viewBox="0 0 {WIDTH} {bottom}" role="img" '
        f'aria-label="{escape(about)}">{style}{"".join(parts)}</svg>\n'
    )


def top_of(number: int) -> int:
    """Return the y coordinate of the top of a stage's box; the input lies above the first."""
    return TOP + number * (HEIGHT + GAP)


def draw_stage(one: Mapping[str, Any], top: int, total: int) -> list[str]:
    """Draw the box of a stage: its name, output shape, kind and counts."""
    share = one["params"] * one["repeats"] / total
    times = f" ×{one['repeats']}" if one["repeats"] > 1 else ""
    shape = format_shape(one["shape"])
    counts = [f"{format_integer(one['params'] * one['repeats'])} parameters"] if one["params"] else []
    counts += [f"{format_count(one['macs'] * one['repeats'])} MACs"] if one["macs"] else []
    counts += [f"sees {format_sees(one)}"] if one["sees"] else []
    room = int((BOX - 20) / LETTER)
    name = cut(one["name"], room - len(shape) - len(times) - 2)
    kind = cut(one["kind"], room)
    x = LEFT + 12
    second = [f'<text x="{x}" y="{top + 31}">{escape(kind)}</text>'] if kind != one["name"] else []
    stacked = [f'<rect class="stage" x="{LEFT + 4}" y="{top + 4}" width="{BOX}" height="{HEIGHT}" rx="6"/>']
    return [
        "<g>",
        *(stacked if one["repeats"] > 1 else []),
        f"<title>{escape(one['name'])}: {escape(one['kind'])}</title>",
        f'<rect class="stage" x="{LEFT}" y="{top}" width="{BOX}" height="{HEIGHT}" rx="6"/>',
        f'<rect class="weight" x="{LEFT}" y="{top + HEIGHT - 3}" width="{max(share * BOX, 0):.1f}" height="3"/>',
        f'<text class="name" x="{x}" y="{top + 16}">{escape(name)}{times}</text>',
        f'<text x="{LEFT + BOX - 8}" y="{top + 16}" text-anchor="end">{shape}</text>',
        *second,
        f'<text x="{x}" y="{top + 44}">{escape(" · ".join(counts))}</text>',
        "</g>",
    ]


def cut(words: str, letters: int) -> str:
    """Shorten a text to a number of letters."""
    return words if len(words) <= letters else f"{words[: max(letters - 1, 1)]}…"


def arrow(target: int) -> list[str]:
    """Draw an arrow from the previous stage."""
    x, end = LEFT + BOX // 2, top_of(target)
    start = end - GAP + (4 if target else 8)
    return [
        f'<path class="flow" d="M{x} {start}V{end - 5}"/>',
        f'<path class="tip" d="M{x - 4} {end - 7}h8l-4 7z"/>',
    ]


def arc(source: int, target: int, lane: int) -> list[str]:
    """Draw an arc on the right from a stage to a later one."""
    right = LEFT + BOX
    start = top_of(source) + HEIGHT * 2 // 3 if source >= 0 else 12
    begin = right if source >= 0 else LEFT + 110
    end, turn = top_of(target) + HEIGHT // 3, right + 12 + lane * LANE
    return [
        f'<path class="flow skip" d="M{begin} {start}H{turn - 5}q5 0 5 5V{end - 5}q0 5 -5 5H{right + 6}"/>',
        f'<path class="tip skip" d="M{right + 7} {end - 4}v8l-7 -4z"/>',
    ]
