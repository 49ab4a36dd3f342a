"""Print advice in the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from src.advice.estimates import MEASURED, UNKNOWN
from src.system.durations import format_duration
from src.system.wording import counted

NEAR_MISSES_SHOWN = 3


def print_advice(console: Console, answer: Mapping[str, Any]) -> None:
    """Print the table of nets, then the reasons and command of each, then how to deploy."""
    console.print(table(answer))
    lines = [*answer["based_on"]]
    if answer["left_out"]:
        lines.append(f"Left out: {'; '.join(f'{number} for {why}' for why, number in answer['left_out'].items())}.")
    if answer["near_misses"]:
        lines.append(f"Just above the limits: {'; '.join(answer['near_misses'][:NEAR_MISSES_SHOWN])}.")
    if answer["more"]:
        lines.append(f"{counted(answer['more'], 'more net')} would fit: top={answer['more'] + len(answer['advice'])}.")
    for one in answer["advice"]:
        lines += ["", f"{one['rank']}. {one['model']}", *(f"   - {reason}" for reason in one["reasons"])]
        lines.append(f"   {one['command']}")
    lines += [
        "",
        f"To deploy (device={answer['wish']['device']}, docs/deploy.md):",
        *(f"   {line}" for line in answer["deployment"]),
    ]
    lines += ["", f"See also: {', '.join(answer['read_on'])}."]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def table(answer: Mapping[str, Any]) -> Table:
    """Tabulate the costs and scores of the nets."""
    result = Table()
    for title in ("#", "model", "input", "parameters", "MACs", "score", "latency", "training"):
        result.add_column(title, justify="left" if title == "model" else "right", overflow="fold")
    for one in answer["advice"]:
        result.add_row(
            str(one["rank"]),
            one["model"],
            one["input"],
            f"{one['params']:,}",
            f"{one['macs'] / 1e6:,.1f} M",
            format_score(one["score"]),
            format_latency(one["latency_ms"], one["latency_from"]),
            format_training(one["train_minutes"], one["epochs"], one["train_images_per_second"]),
        )
    return result


def format_score(score: Mapping[str, Any] | None) -> str:
    """Format a score, the data it was measured on, and the epochs of training."""
    if score is None:
        return UNKNOWN
    size = f", {score['size']} px" if score["size"] else ""
    epochs = f", {score['epochs']} epochs" if score["epochs"] else ""
    return f"{score['name']} {score['value']:.4g} ({score['data']}{size}{epochs})"


def format_latency(milliseconds: float | None, known: str) -> str:
    """Format a latency, with ≥ if it was not measured."""
    return (
        UNKNOWN
        if milliseconds is None
        else f"{'' if known == MEASURED else '≥ '}{milliseconds:{'.0f' if milliseconds >= 100 else '.2g'}} ms"
    )


def format_training(minutes: float | None, epochs: int | None, speed: float | None) -> str:
    """Format the training time, or the training speed if the number of images is unknown."""
    if speed is None:
        return UNKNOWN
    return f"{speed:,.0f} images/s" if minutes is None else f"about {format_duration(60 * minutes)}, {epochs} epochs"
