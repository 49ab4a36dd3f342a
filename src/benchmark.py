"""Measure a net's speed and size: `python src/benchmark.py -m model=mnist_cnn_68k,mnist_vit_38k` gives one table."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.sweeps.ending import listen_from_the_start

if __name__ == "__main__":
    listen_from_the_start()  # before the imports, which take a while

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras


def benchmark(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure the model of `cfg`, and add it to the table, `benchmark.json` and the plot in a folder.

    Returns:
        The metrics of the model, and the objects used.
    """
    apply_extras(cfg)

    import lightning as L  # here, so that mistakes in the config are reported at once

    from src.deploy.speed import measure_exported
    from src.predictor import check_trusted, read_card
    from src.run.instantiate import instantiate, silence_lightning
    from src.speed.benchmark import measure_model, threads_of
    from src.speed.benchmark_report import add_to_report, recorded_score

    silence_lightning()
    L.seed_everything(cfg.seed, verbose=False)
    model = instantiate(cfg.model)
    name = HydraConfig.get().runtime.choices["model"] if HydraConfig.initialized() else cfg.model.net._target_
    for path in cfg.exported:
        check_trusted(path, read_card(path), cfg.trusted)  # report mistakes before anything is measured
    with threads_of(cfg):
        metrics = {"model": name} | measure_model(model, cfg)
        recorded = recorded_score(name, Path(cfg.paths.log_dir))
        metrics |= recorded or {"score": model.score, "score_value": None, "score_data": None}
        rows = [metrics, *(measure_exported(path, cfg) for path in cfg.exported)]
    add_to_report(rows, folder)
    return metrics, {"cfg": cfg, "model": model}


@entry_point("benchmark")
def main(cfg: DictConfig) -> None:
    """Measure the model of the command line; the jobs of a sweep share one table."""
    hydra = HydraConfig.get()
    benchmark(cfg, Path(hydra.sweep.dir if hydra.mode == RunMode.MULTIRUN else hydra.runtime.output_dir))


if __name__ == "__main__":
    main()
