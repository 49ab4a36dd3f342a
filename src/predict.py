"""Predict images with a trained net: `python src/predict.py run_dir=logs/train/runs/… input=photo.png`."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.system.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.predictor import (
    check_all_predicted,
    check_drawable,
    check_outputs,
    find_files,
    input_kind,
    load,
    report_rows,
)
from src.run.reuse import check_run_config, chosen_run, load_run_config


def predict(cfg: DictConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Predict with the best checkpoint of a run, or with an exported model.

    Returns:
        A row for each image, see `src.predictor.Predictor.predict`, and the objects used.
    """
    apply_extras(cfg)
    if cfg.exported and (cfg.run_dir or cfg.ckpt_path):
        raise ValueError(f"model={cfg.exported} and a run are given: choose one of them to predict with.")
    if cfg.exported and cfg.calibrated:
        raise ValueError(
            f"calibrated=true is for runs; model={cfg.exported} is calibrated if it was exported so: src/export.py "
            "calibrated=true"
        )
    check_outputs(cfg.out, cfg.sheet, cfg.images, cfg.vectors)
    inputs = [cfg.input] if isinstance(cfg.input, str) else list(cfg.input)
    named = find_files(inputs)  # files of any kind, to report mistakes before the model is loaded
    check_not_overwritten(named, {"sheet": cfg.sheet})
    if cfg.exported:
        predictor = load(cfg.exported, trusted=cfg.trusted)
    else:
        ckpt_path = chosen_run(cfg).best_checkpoint()
        check_run_config(cfg)
        from src.deploy.serving import predictor_of_run  # imports torch; mistakes above are reported before

        predictor = predictor_of_run(cfg, ckpt_path)
    check_drawable(predictor.card, cfg.sheet)
    paths = find_files(inputs, [input_kind(predictor.card)])
    check_not_overwritten(paths, {"out": cfg.out, "sheet": cfg.sheet, "vectors": cfg.vectors})
    rows = list(predictor.predict(paths, cfg.top, cfg.images, cfg.vectors))
    report_rows(rows, predictor.card["outputs"], cfg.out, cfg.sheet)
    return rows, {"cfg": cfg, "predictor": predictor}


def check_not_overwritten(paths: Sequence[str | Path], outputs: Mapping[str, str | None]) -> None:
    """Raise ValueError if an output file is one of the inputs, even under another name."""
    for name, output in outputs.items():
        if output and Path(output).exists() and any(Path(output).samefile(path) for path in paths):
            raise ValueError(f"{name}={output} is one of the inputs: name another file to write.")


def prepare_command_line() -> None:
    """Let `model=` name an exported model, and load the configuration of the run."""
    sys.argv[1:] = [re.sub(r"^model=", "exported=", argument) for argument in sys.argv[1:]]
    load_run_config(sys.argv[1:], groups=(), alternative=", or model=<folder of an exported model>")


@entry_point("predict", prepare=prepare_command_line)
def main(cfg: DictConfig) -> None:
    """Predict; fail at the end if a file could not be predicted."""
    rows, _ = predict(cfg)
    check_all_predicted(rows)


if __name__ == "__main__":
    main()
