"""Plot the Pareto front of the nets that fit."""

from collections.abc import Sequence
from pathlib import Path

from src.advice.ranking import Candidate
from src.advice.request import Request
from src.report.statistics import pareto_front
from src.system.json_files import replacing

SUFFIXES = (".png", ".svg", ".pdf")
NAMED = 12  # with at most this many points, all are labelled; otherwise only the front


def check_plot(path: str) -> Path:
    """Return the path of a plot.

    Raises:
        ValueError: its suffix is not one of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"plot={path}: the file name must end in {', '.join(SUFFIXES)}.")
    return Path(path)


def plot_front(path: Path, candidates: Sequence[Candidate], request: Request, decided_by: str | None) -> None:
    """Plot latency against score and against size; a line joins the Pareto-optimal nets.

    Raises:
        ValueError: no net has a measured speed, or the folder does not exist.
    """
    from matplotlib.figure import Figure

    timed = [(one, one.cost.latency_ms) for one in candidates if one.cost.latency_ms]
    if not timed:
        raise ValueError(
            f"plot={path}: no speeds are measured for the nets of task={request.task}; there is nothing to draw."
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"plot={path}: there is no folder {path.parent}.")
    scored = [(x, one.evidence.value, one.name) for one, x in timed if one.evidence and one.evidence.data == decided_by]
    sized = [(x, one.cost.params, one.name) for one, x in timed]
    charts = [("parameters", sized, False)]
    if len(scored) > 1:
        charts.insert(0, (f"test/{request.kind.score} on {decided_by}", scored, not request.kind.minimised))
    figure = Figure(figsize=(8, 5 * len(charts)), layout="constrained")
    for axis, (label, points, higher) in zip(figure.subplots(len(charts), 1, squeeze=False)[:, 0], charts, strict=True):
        ordered = [(x, y if higher else -y) for x, y, _ in points]
        front = [points[number] for number in pareto_front(ordered)]
        axis.set(xlabel="latency per image, ms (a lower bound where not measured)", xscale="log", ylabel=label)
        axis.set_yscale("log" if label == "parameters" else "linear")
        axis.grid(alpha=0.3)
        axis.scatter([x for x, _, _ in points], [y for _, y, _ in points], color="0.6", s=16)
        axis.plot([x for x, _, _ in front], [y for _, y, _ in front], marker="o", drawstyle="steps-post")
        for x, y, name in points if len(points) <= NAMED else front:
            axis.annotate(name, (x, y), fontsize=8, xytext=(5, 4), textcoords="offset points", parse_math=False)
        axis.margins(x=0.2)
    with replacing(path, "xb") as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:])
