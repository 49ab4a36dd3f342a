"""Predict the classes of images: `python src/predict.py run_dir=logs/train/runs/… input=photo.png`."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.utils.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from omegaconf import DictConfig

from src.utils.cli import entry_point, guarded
from src.utils.extras import apply_extras
from src.utils.predictor import check_outputs, find_images, load, report_rows
from src.utils.run_config import chosen_checkpoint, load_run_config
from src.utils.targets import check_targets

PATHS = ("input", "exported", "out", "sheet")


def predict(cfg: DictConfig) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Predict with the best checkpoint of a run, or with an exported model.

    Returns:
        A row for each image, as `src.utils.predictor.Predictor.predict` yields them, and the objects used.
    """
    apply_extras(cfg)
    if cfg.exported and (cfg.run_dir or cfg.ckpt_path):
        raise ValueError(f"model={cfg.exported} and a run are given: say which of them is to predict.")
    check_outputs(cfg.out, cfg.sheet)
    paths = find_images([cfg.input] if isinstance(cfg.input, str) else list(cfg.input))
    if cfg.exported:
        predictor = load(cfg.exported, trusted=cfg.trusted)
    else:
        ckpt_path = chosen_checkpoint(cfg)
        check_targets(cfg, cfg.allowed_targets)
        from src.deploy.serving import predictor_of_run  # imports torch; mistakes above are answered before

        predictor = predictor_of_run(cfg, ckpt_path)
    rows = list(predictor.predict(paths, cfg.top))
    report_rows(rows, list(predictor.card["heads"]), cfg.out, cfg.sheet)
    return rows, {"cfg": cfg, "predictor": predictor}


def prepare_command_line() -> None:
    """Let `model=` name an exported model, take the names of files as they are written, and load the run's config."""
    arguments = [re.sub(r"^model=", "exported=", argument) for argument in sys.argv[1:]]
    load_run_config(arguments, groups=())
    sys.argv[1:] = [quoted(argument) for argument in arguments]


def quoted(argument: str) -> str:
    """Quote the names of files, which may hold characters that mean something to Hydra; in a list, between commas."""
    key, _, value = argument.partition("=")
    if key not in PATHS or value[:1] in ("", "'", '"') or value == "null":
        return argument
    if value.startswith("[") and value.endswith("]"):
        if "'" in value or '"' in value:  # quoted already
            return argument
        return (
            f"{key}=[{','.join(quoted(f'{key}={name.strip()}').partition('=')[2] for name in value[1:-1].split(','))}]"
        )
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value)
    return f"{key}='{escaped}'"


@entry_point("predict")
def main(cfg: DictConfig) -> None:
    """Predict as the command line says."""
    predict(cfg)


if __name__ == "__main__":
    guarded(prepare_command_line)
    main()
