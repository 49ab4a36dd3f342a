"""One page, in one file, that tells of all compared runs."""

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from src.config.quoting import name_of
from src.report import charts
from src.report.charts import DISTINCT, Point, Series
from src.report.comparisons import Comparison, checksum_of
from src.report.confusions import confusion, mistakes_shown
from src.report.curves import Curve, mean_curve, read_curves, thinned
from src.report.run_files import OVERRIDES, TEST_REPORT, caption_of
from src.report.runs import Run
from src.report.statistics import Configuration, shared_settings
from src.report.studies import StudyReport
from src.run.scores import Score
from src.run.status import FINISHED, INTERRUPTED
from src.system.json_files import part, write_whole

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "params": ("parameters", charts.count),
    "macs": ("MACs of one image", charts.count),
    "train_seconds": ("training time", charts.duration),
    "latency_ms": ("latency of one image", charts.milliseconds),
}
SHOWN_AT_ONCE = 50  # configurations of a table; the rest comes when it is asked or searched for
PICTURED = 12  # runs of a comparison, the best, that confusions and mistakes are shown of
SEEDS = 10  # of a configuration, whose curves are read
LONGEST = 500  # characters of an error


def render(found: Sequence[Comparison], studies: Sequence[StudyReport], damaged: Sequence[str] = ()) -> str:
    """The page, as HTML that needs nothing but itself."""
    runs = [run for one in found for run in one.runs]
    tested_runs = [[run for run in one.runs if (run.folder / TEST_REPORT).is_file()] for one in found]
    pictured = [run for members in tested_runs for run in members[:PICTURED]]
    environment = Environment(
        loader=PackageLoader("src.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "duration": charts.duration,
        "milliseconds": charts.milliseconds,
        "count": charts.count,
        "command": command,
        "further_commands": further_commands,
    }
    loader = environment.loader
    assert loader is not None
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("style.css", "page.js"))
    return environment.get_template("page.html.jinja").render(
        style=style,
        script=script,
        # of all scripts the browser runs this one, and it fetches nothing, whatever the rest of the page says
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        comparisons=[
            (
                one,
                trade_offs(one.configurations, one.metric, one.minimised),
                curve_charts(one.configurations, one.score),
            )
            for one in found
        ],
        runs=runs,
        damaged=damaged,
        total=sum(len(one.configurations) for one in found),
        tested={run.folder for members in tested_runs for run in members},
        pictured={run.folder for run in pictured},
        now=datetime.now().astimezone(),
        shared=shared_settings(runs),
        machines=machines(runs),
        look=charts.style_of,
        text_of=charts.text_of,
        caption_of=caption_of,
        studies=[(study, study_charts(study)) for study in studies],
        finished=FINISHED,
        confusion=confusion,
        most_mistakes=mistakes_shown(pictured),
        at_once=SHOWN_AT_ONCE,
        distinct=DISTINCT,
        longest=LONGEST,
    )


def machines(runs: Sequence[Run]) -> list[tuple[str, list[str], str]]:
    """What the runs ran on: a name, all that there is of it, and what cannot be compared where that is several."""

    def named(read: Callable[[Mapping[str, Any]], Any]) -> list[str]:
        return sorted({str(read(run.facts)) for run in runs if run.facts})

    def threads(facts: Mapping[str, Any]) -> str:
        return f"{facts.get('cpu')}, {facts.get('threads')} thread{'s' * (facts.get('threads') != 1)}"

    def commit(facts: Mapping[str, Any]) -> str:
        return f"{str(facts.get('git_commit'))[:9]}{' (changed)' * bool(facts.get('git_dirty'))}"

    times = "times are not comparable"
    return [
        ("test data", tested(runs), "not the same images: ranked apart, for accuracies are not comparable"),
        ("processor", named(threads), times),
        ("torch", named(lambda facts: part(facts, "packages").get("torch")), times),
        ("commit", named(commit), "the code may differ"),
    ]


def tested(runs: Sequence[Run]) -> list[str]:
    """The data that the runs were tested on; with its checksum, where one name stands for several."""
    known = {(str(part(run.facts, "choices").get("data")), "".join(checksum_of(run))) for run in runs if run.facts}
    names = Counter(name for name, _ in known)
    return sorted(f"{name} ({checksum})" if names[name] > 1 else name for name, checksum in known)


def trade_offs(found: Sequence[Configuration], metric: str, minimised: bool) -> list[Markup]:
    """The metric against each cost that is known of at least two configurations."""
    drawn = []
    for name, (label, text) in COSTS.items():
        points = [
            Point(cost, value, one.label, rank)
            for rank, one in enumerate(found)
            if (cost := one.mean(name) or 0) > 0 and (value := one.mean(metric)) is not None
        ]
        if len(points) > 1 and name != metric:
            drawn.append(charts.scatter(points, label, metric, text, minimised))
    return drawn


def curve_charts(found: Sequence[Configuration], score: Score) -> list[Markup]:
    """Losses and score of the best configurations: their mean, and thin lines for its seeds."""
    shown = ("train/loss", "val/loss", f"val/{score.name}")
    found = found[:DISTINCT]  # more cannot be told apart
    read = [[read_curves(run.folder, shown) for run in one.runs[:SEEDS]] for one in found]
    drawn = []
    for name in shown:
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
    if any(needs_trust(word) for word in run.overrides):
        return shlex.join(["python", "src/train.py", f"reproduce={run.folder}"])
    words = [*run.overrides] + (
        [f"seed={run.seed}"] if not any(word.startswith("seed=") for word in run.overrides) else []
    )
    return shlex.join(["python", "src/train.py", *words])


def needs_trust(word: str) -> bool:
    """Whether an override names code, permissions or Hydra's own settings, which a pasted command would be granted."""
    return "_target_" in word or "${" in word or name_of(word).partition(".")[0] in ("allowed_targets", "hydra")


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks where one would: `mnist_cnn_68k` before a word, not within it."""
    return Markup("<wbr>").join(re.findall(r"[^_=.]*[_=.]?", name))


def further_commands(run: Run) -> list[tuple[str, str]]:
    """What can be done with a run, and the command for it."""
    if not (run.folder / OVERRIDES).is_file():  # it has never begun
        return []
    found = [("Run it again, and tell what is different", "reproduce")]
    if run.status == INTERRUPTED:
        found.insert(0, ("Go on", "resume"))
    return [(title, shlex.join(["python", "src/train.py", f"{word}={run.folder}"])) for title, word in found]


def write_page(
    path: Path, found: Sequence[Comparison], studies: Sequence[StudyReport], damaged: Sequence[str] = ()
) -> None:
    """Write the page to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(found, studies, damaged))
