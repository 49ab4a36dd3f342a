"""Choose a net: `python src/choose.py task=classification images=10000 size=64` ranks those that fit, with reasons."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from omegaconf import DictConfig

from src.advice.advising import advise
from src.advice.answer import print_advice
from src.advice.deployment import deployment
from src.advice.front import check_plot, plot_front
from src.advice.measurements import read_evidence, read_models, recipe_gains
from src.advice.ranking import rank
from src.advice.request import read_request, whole
from src.cli.entry_point import entry_point
from src.cli.output import printed_as


def choose(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rank the nets that fit a request, from committed measurements alone.

    Returns:
        The answer, as it is printed with `format=json`; the ranking and the picture's path.
    """
    from rich.console import Console

    request, top = read_request(cfg), whole("top", cfg.top) or 1
    plot = None if cfg.plot is None else check_plot(cfg.plot)
    models = read_models()
    evidence = read_evidence(models)
    ranking = rank(request, models, evidence)
    answer = advise(request, ranking, recipe_gains(models), top)
    answer |= {"wish": {key: value for key, value in vars(request).items() if value is not None}}
    answer |= {"deployment": deployment(request.device, evidence)}
    if plot is not None:
        plot_front(plot, ranking.candidates, request, ranking.decided_by)
    with printed_as(cfg.format) as result:
        result |= answer
        if cfg.format == "table":
            print_advice(Console(width=None if sys.stdout.isatty() else 160), answer)
    return answer, {"ranking": ranking, "plot": plot}


@entry_point("choose")
def main(cfg: DictConfig) -> None:
    """Choose nets as the command line says."""
    choose(cfg)


if __name__ == "__main__":
    main()
