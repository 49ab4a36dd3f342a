"""A self-contained HTML page about all compared runs."""

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from src.config.quoting import name_of
from src.report import charts, formats
from src.report.charts import DISTINCT, Point, Series
from src.report.comparisons import Comparison, images_checksum
from src.report.confusions import confusion, mistakes_shown
from src.report.curves import mean_curve, read_curves, thin_out
from src.report.run_files import caption_of
from src.report.runs import Run
from src.report.statistics import repeated, shared_settings
from src.report.studies import RELIABLE_TRIALS, StudyReport
from src.report.templates import environment
from src.run.file_names import OVERRIDES, TEST_REPORT
from src.run.status import FINISHED, INTERRUPTED
from src.system.json_files import part, write_whole

COST_CHARTS: list[tuple[str, str, formats.Formatter]] = [  # metric, label of the axis, and formatter
    ("params", "parameters", formats.format_count),
    ("macs", "MACs of one image", formats.format_count),
    ("train_seconds", "training time", formats.format_seconds),
    ("latency_ms", "latency of one image", formats.format_milliseconds),
]
SCRIPT = Path(__file__).parent / "page" / "page.js"
MAX_ROWS = 50  # rows of a table; the page shows the rest on request or in a search
MAX_TEST_REPORTS = 12  # test reports shown for each comparison, of the best runs
MAX_SEEDS = 10  # seeds of a configuration whose curves are drawn
MAX_ERROR = 500  # characters of an error message


def render(comparisons: Sequence[Comparison], studies: Sequence[StudyReport], damaged: Sequence[str] = ()) -> str:
    """Render the page as HTML; it loads nothing from elsewhere."""
    runs = [run for comparison in comparisons for run in comparison.runs]
    tested = [[run for run in comparison.runs if (run.folder / TEST_REPORT).is_file()] for comparison in comparisons]
    reported = [run for members in tested for run in members[:MAX_TEST_REPORTS]]
    templates = environment()
    templates.filters |= {"breakable": breakable, "command": command, "further_commands": further_commands}
    script = Markup(SCRIPT.read_text(encoding="utf-8"))
    return templates.get_template("page.html.jinja").render(
        script=script,
        # the only script the browser may run, whatever else is on the page; it loads nothing
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        comparisons=[(comparison, cost_charts(comparison), curve_charts(comparison)) for comparison in comparisons],
        runs=runs,
        damaged=damaged,
        total=sum(len(comparison.configurations) for comparison in comparisons),
        tested={run.folder for members in tested for run in members},
        reported={run.folder for run in reported},
        now=datetime.now().astimezone(),
        shared=shared_settings(runs),
        machines=machines(runs),
        style_of=charts.style_of,
        metric_formatter=formats.metric_formatter,
        repeated=repeated,
        format_integer=formats.format_integer,
        cost_columns=formats.COST_COLUMNS,
        caption_of=caption_of,
        studies=[(study, study_charts(study)) for study in studies],
        reliable_trials=RELIABLE_TRIALS,
        finished=FINISHED,
        confusion=confusion,
        max_mistakes=mistakes_shown(reported),
        max_rows=MAX_ROWS,
        distinct=DISTINCT,
        max_error=MAX_ERROR,
    )


def machines(runs: Sequence[Run]) -> list[tuple[str, list[str], str]]:
    """List what the runs ran on, as (title, distinct values, warning if there are several)."""

    def values(describe: Callable[[Mapping[str, Any]], Any]) -> list[str]:
        return sorted({str(describe(run.record)) for run in runs if run.record})

    def processor(record: Mapping[str, Any]) -> str:
        return f"{record.get('cpu')}, {record.get('threads')} thread{'' if record.get('threads') == 1 else 's'}"

    def commit(record: Mapping[str, Any]) -> str:
        return f"{str(record.get('git_commit'))[:9]}{' (changed)' if record.get('git_dirty') else ''}"

    times = "times are not comparable"
    return [
        ("test data", tested_on(runs), "different images: ranked separately, because accuracies are not comparable"),
        ("processor", values(processor), times),
        ("torch", values(lambda record: part(record, "packages").get("torch")), times),
        ("commit", values(commit), "the code may differ"),
    ]


def tested_on(runs: Sequence[Run]) -> list[str]:
    """List the data that the runs were tested on, with the checksum if a name has several."""
    data = {(str(part(run.record, "choices").get("data")), images_checksum(run)) for run in runs if run.record}
    names = Counter(name for name, _ in data)
    return sorted(f"{name} ({checksum})" if names[name] > 1 else name for name, checksum in data)


def cost_charts(comparison: Comparison) -> list[Markup]:
    """Draw the metric against each cost that at least two configurations have."""
    drawn = []
    for cost, label, formatter in COST_CHARTS:
        points = [
            Point(x, y, configuration.label, rank)
            for rank, configuration in enumerate(comparison.configurations)
            if (x := configuration.mean(cost) or 0) > 0 and (y := configuration.mean(comparison.metric)) is not None
        ]
        if len(points) > 1 and cost != comparison.metric:
            drawn.append(charts.scatter(points, label, comparison.metric, formatter, comparison.minimised))
    return drawn


def curve_charts(comparison: Comparison) -> list[Markup]:
    """Draw losses and score of the best configurations: the mean, and the seeds where there are several."""
    names = ("train/loss", "val/loss", f"val/{comparison.score.name}")
    configurations = comparison.configurations[:DISTINCT]  # more cannot be distinguished
    curves = [[read_curves(run.folder, names) for run in one.runs[:MAX_SEEDS]] for one in configurations]
    drawn = []
    for name in names:
        series = []
        for rank, configuration in enumerate(configurations):
            seeds = [run_curves[name] for run_curves in curves[rank] if name in run_curves]
            if seeds:
                thin = [thin_out(curve) for curve in seeds] if len(seeds) > 1 else []
                series.append(Series(configuration.label, rank, thin_out(mean_curve(seeds)), thin))
        drawn.append(charts.lines(series, "epoch", name))
    return [chart for chart in drawn if chart]


def study_charts(study: StudyReport) -> list[Markup]:
    """Draw the history of each objective."""
    return [
        charts.history([(number, values[index], pruned) for number, values, pruned in study.trials], name, minimised)
        for index, (name, minimised) in enumerate(zip(study.objectives, study.minimised, strict=True))
        if study.trials
    ]


def command(run: Run) -> str:
    """Return the command that repeats a run."""
    if any(needs_trust(override) for override in run.overrides):
        return train_command(f"reproduce={run.folder}")
    has_seed = any(override.startswith("seed=") for override in run.overrides)
    return train_command(*run.overrides, *([] if has_seed else [f"seed={run.seed}"]))


def needs_trust(override: str) -> bool:
    """Return whether an override names code, permissions or Hydra's settings, which pasting the command would grant."""
    name = name_of(override).partition(".")[0]
    return "_target_" in override or "${" in override or name in ("allowed_targets", "hydra")


def further_commands(run: Run) -> list[tuple[str, str]]:
    """List further commands for a run, as (title, command)."""
    if not (run.folder / OVERRIDES).is_file():  # it has never started
        return []
    resume = [("Resume it", train_command(f"resume={run.folder}"))] if run.status == INTERRUPTED else []
    return [*resume, ("Run it again and report differences", train_command(f"reproduce={run.folder}"))]


def train_command(*overrides: str) -> str:
    """Return a shell command that trains with these overrides."""
    return shlex.join(["python", "src/train.py", *overrides])


def breakable(name: str) -> Markup:
    """Allow line breaks between the words of a name, such as after the underscores of `mnist_cnn_68k`."""
    return Markup("<wbr>").join(re.findall(r"[^_=.]*[_=.]?", name))


def write_page(
    path: Path, comparisons: Sequence[Comparison], studies: Sequence[StudyReport], damaged: Sequence[str] = ()
) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(comparisons, studies, damaged))
