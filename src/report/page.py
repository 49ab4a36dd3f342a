"""One page, in one file, that tells of all compared runs."""

import base64
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from src.report import charts
from src.report.charts import Point, Series
from src.report.curves import SHOWN, Curve, mean_curve, read_curves, thinned
from src.report.runs import Run
from src.report.statistics import Configuration, is_minimised, shared_settings
from src.report.studies import StudyReport
from src.utils.job_status import FINISHED

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "params": ("parameters", charts.count),
    "train_seconds": ("training time", charts.duration),
    "latency_ms": ("latency of one image", charts.milliseconds),
}
MOST_NUMBERED = 20  # classes of a confusion matrix that is written in numbers


def render(found: Sequence[Configuration], metric: str, studies: Sequence[StudyReport]) -> str:
    """The page, as HTML that needs nothing but itself."""
    runs = [run for one in found for run in one.runs]
    environment = Environment(
        loader=PackageLoader("src.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": charts.short,
        "count": charts.count,
        "duration": charts.duration,
        "milliseconds": charts.milliseconds,
        "command": command,
    }
    loader = environment.loader
    assert loader is not None
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("style.css", "page.js"))
    return environment.get_template("page.html.jinja").render(
        style=style,
        script=script,
        configurations=found,
        runs=runs,
        metric=metric,
        now=datetime.now().astimezone(),
        shared=shared_settings(runs),
        machines=machines(runs),
        trade_offs=trade_offs(found, metric),
        curves=curve_charts(found),
        colour=charts.colour,
        studies=[(study, study_charts(study)) for study in studies],
        finished=FINISHED,
        confusion=confusion,
    )


def machines(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs ran on; where it is more than one thing, their times cannot be compared."""

    def named(read: Callable[[Mapping[str, Any]], Any]) -> list[str]:
        return sorted({str(read(run.facts)) for run in runs if run.facts})

    return {
        "processor": named(lambda facts: f"{facts.get('cpu')}, {facts.get('threads')} threads"),
        "torch": named(lambda facts: facts.get("packages", {}).get("torch")),
        "commit": named(
            lambda facts: f"{str(facts.get('git_commit'))[:9]}{' (changed)' * bool(facts.get('git_dirty'))}"
        ),
    }


def trade_offs(found: Sequence[Configuration], metric: str) -> list[Markup]:
    """The metric against each cost that is known of at least two configurations."""
    if is_minimised(metric):
        return []
    drawn = []
    for name, (label, text) in COSTS.items():
        points = [
            Point(cost, value, one.label, rank)
            for rank, one in enumerate(found)
            if (cost := one.mean(name)) and (value := one.mean(metric)) is not None
        ]
        if len(points) > 1:
            drawn.append(charts.scatter(points, label, metric, text))
    return drawn


def curve_charts(found: Sequence[Configuration]) -> list[Markup]:
    """The curves of each configuration: their mean, and thin lines for its seeds."""
    read = [[read_curves(run.folder) for run in one.runs] for one in found]
    drawn = []
    for name in SHOWN:
        series = []
        for rank, (one, curves) in enumerate(zip(found, read, strict=True)):
            seeds: list[Curve] = [thinned(curve[name]) for curve in curves if name in curve]
            if seeds:
                several = seeds if len(seeds) > 1 else []
                series.append(
                    Series(one.label, rank, thinned(mean_curve([c[name] for c in curves if name in c])), several)
                )
        drawn.append(charts.lines(series, "epoch", name))
    return [chart for chart in drawn if chart]


def study_charts(study: StudyReport) -> list[Markup]:
    """The history of each objective."""
    drawn = []
    for place, (name, minimised) in enumerate(zip(study.objectives, study.minimised, strict=True)):
        values = [(number, found[place], pruned) for number, found, pruned in study.trials]
        if values:
            drawn.append(charts.history(values, name, minimised))
    return drawn


def command(run: Run) -> str:
    """The command that makes a run, as the command line has it."""
    program = str(run.facts.get("command", "")).partition(" ")[0] or "src/train.py"
    words = [*run.overrides] + (
        [f"seed={run.seed}"] if not any(word.startswith("seed=") for word in run.overrides) else []
    )
    return shlex.join(["python", program if program.endswith("train.py") else "src/train.py", *words])


def confusion(head: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a head's confusion matrix: numbers where there are few classes, else a picture."""
    counts: list[list[int]] = head["counts"]
    rows = [
        {
            "name": name,
            "cells": [(count, count / max(sum(row), 1)) for count in row],
            "right": row[place] / max(sum(row), 1),
        }
        for place, (name, row) in enumerate(zip(head["classes"], counts, strict=True))
    ]
    return {"rows": rows, "picture": None if len(rows) <= MOST_NUMBERED else picture(rows)}


def picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """A confusion matrix as PNG in base64, a pixel for each pair of classes, the darker the larger its share."""
    from PIL import Image

    image = Image.new("L", (len(rows), len(rows)))
    image.putdata([255 - round(255 * share**0.5) for row in rows for _, share in row["cells"]])
    content = io.BytesIO()
    image.save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()


def write_page(path: Path, found: Sequence[Configuration], metric: str, studies: Sequence[StudyReport]) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(found, metric, studies), encoding="utf-8")
