"""Test a trained net: `python src/eval.py run_dir=logs/train/runs/…` or `ckpt_path=….ckpt`; nothing else is needed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.system.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.cli.output import printed_as, result_of
from src.config.composing import compose
from src.run.directory import with_folder
from src.run.reuse import check_run_config, chosen_run, load_run_config

if TYPE_CHECKING:  # its import takes seconds
    from torch import Tensor

ConfigStore.instance().store(name="run", node={})  # for composing `eval` in Python; see `with_run`


def evaluate(cfg: DictConfig) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Test a checkpoint on the test set.

    Returns:
        The test metrics as scalar tensors, and the objects used.
    """
    cfg = with_folder(with_run(cfg))
    apply_extras(cfg)
    ckpt_path = chosen_run(cfg).best_checkpoint()
    check_run_config(cfg)

    from src.run.instantiate import build  # imports torch and lightning; mistakes above are reported before
    from src.run.results import as_tensors, collect_metrics, report
    from src.sweeps.job_callback import callbacks_of_job

    objects = build(cfg, ckpt_path, callbacks_of_job(cfg.paths.output_dir))
    trainer = objects["trainer"]
    trainer.test(
        objects["model"],
        datamodule=objects["datamodule"],
        ckpt_path=ckpt_path,
        weights_only=True,
        verbose=False,
    )
    metrics = collect_metrics(trainer)
    report(cfg, objects, metrics)
    return as_tensors(metrics), objects


def with_run(cfg: DictConfig) -> DictConfig:
    """Complete a configuration composed in Python with that of the run it names; its own values win."""
    if OmegaConf.select(cfg, "model._target_"):  # the program has done so before Hydra started
        return cfg
    own: Any = OmegaConf.to_container(cfg)
    default: Any = OmegaConf.to_container(compose("eval", []).trainer)
    own["trainer"] = {key: value for key, value in own["trainer"].items() if value != default.get(key)}
    named = [f"{key}={own[key]}" for key in ("run_dir", "ckpt_path") if own.get(key)]
    chosen = ["data=chosen"] if OmegaConf.select(cfg, "data._target_") else []
    load_run_config([*named, *chosen], groups=("data", "trainer"))
    complete = compose("eval", [])
    ConfigStore.instance().store(name="run", node={})  # the next call may name another run
    OmegaConf.set_struct(complete, False)
    return DictConfig(OmegaConf.merge(complete, own))


@entry_point("eval", prepare=lambda: load_run_config(sys.argv[1:], groups=("data", "trainer")))
def main(cfg: DictConfig) -> None:
    """Test as the command line says."""
    with printed_as(cfg.format) as result:
        result |= result_of(*evaluate(cfg))


if __name__ == "__main__":
    main()
