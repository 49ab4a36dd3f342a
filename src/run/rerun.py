"""Rerun a recorded run: `resume=<run_dir>` continues it, `reproduce=<run_dir>` repeats it in a new folder."""

import json
import logging
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config.composing import is_override, parse
from src.config.paths import CONFIGS
from src.config.quoting import name_of, path_of, quote, quote_paths
from src.run.file_names import JOB, OVERRIDES, RECORD
from src.run.recorded_overrides import VOLATILE, replayable_overrides
from src.run.run import Run
from src.system.links import check_links
from src.system.locks import locked
from src.system.ranks import broadcast_from_rank_zero, folder_before_restart, move_rendezvous
from src.system.safe_files import printable

log = logging.getLogger(__name__)


def expand_command_line() -> None:
    """Replace `resume=` or `reproduce=` in this program's arguments by the recorded overrides.

    Processes that torchrun restarts after a failure resume their run, as with `resume=`.
    """

    def expanded() -> list[str]:
        folder = folder_before_restart()
        if folder is None or not (Path(folder) / OVERRIDES).is_file():
            return expand(sys.argv[1:])
        # keep the command line, which may name code and folders that a record may not
        typed = [word for word in sys.argv[1:] if name_of(word) not in (*VOLATILE, "ckpt_path")]
        return expand([f"resume={folder}", *typed])

    sys.argv[1:] = json.loads(broadcast_from_rank_zero(lambda: json.dumps(expanded())))
    move_rendezvous()


def expand(arguments: list[str]) -> list[str]:
    """Replace `resume=` or `reproduce=` by the overrides of the recorded run, followed by the command line.

    Raises:
        ValueError: both are given, or the record contains more than a file may set.
        FileNotFoundError: the folder does not contain a run.
    """
    reruns = [argument for argument in arguments if argument.removeprefix("+").startswith(("resume=", "reproduce="))]
    # with the prefix ++, it was expanded by the process that started this one
    if not reruns or reruns[0].partition("=")[2] in ("", "null"):
        return arguments
    if len(reruns) > 1:
        raise ValueError(f"{' '.join(reruns)}: one at a time.")
    if {"-m", "--multirun"} & set(arguments):
        raise ValueError(f"{reruns[0]}: resume the jobs of a sweep one by one, without -m: resume=<sweep>/0")
    key, _, name = reruns[0].lstrip("+").partition("=")
    run = Run(Path(path_of(name)))
    if not (run.folder / OVERRIDES).is_file():
        raise FileNotFoundError(f"{reruns[0]}: this is not the folder of a run; runs are in logs/train/runs/.")
    if key == "resume":
        check_links(run.folder)  # a damaged checkpoint is renamed below, before Hydra checks the folder
    typed = quote_paths([argument for argument in arguments if argument != reruns[0]])
    typed_keys = [override.key_or_group for override in parse(typed)]
    run_dir = quote(str(run.folder.resolve()))
    recipe = [] if "recipe" in typed_keys else recorded_recipe(run)
    typed_recipe = [override for override in typed if override.startswith("recipe=")]
    replayed = replayable_overrides(run.folder, typed_keys, trusted_packages(typed), recipe or typed_recipe)
    expanded = [*replayed, f"++{key}={run_dir}"]
    if (seed := run.seed) is not None:
        expanded.append(f"seed={seed}")
    expanded += recipe
    if key == "resume":
        expanded += [f"hydra.run.dir={run_dir}", "hydra.output_subdir=null"]
        with locked(run.folder):  # unless another process is writing its checkpoints
            ckpt_path = run.resumable_checkpoint() if "ckpt_path" not in typed_keys else None
        if ckpt_path is not None or "ckpt_path" in typed_keys:
            expanded = [override for override in expanded if not override.startswith("ckpt_path=")]
        if ckpt_path is not None:
            expanded.append(f"ckpt_path={quote(str(ckpt_path.resolve()))}")
        elif "ckpt_path" not in typed_keys:
            log.warning("There is no checkpoint in %s yet: the run starts over.", run.checkpoint_dir)
    # Hydra takes options before or after all overrides, not between them; it rejects empty arguments itself
    options = [word for word in typed if word and not is_override(word)]
    return [*options, *expanded, *(word for word in typed if word not in options)]


def recorded_recipe(run: Run) -> list[str]:
    """Return the override that chooses the recipe of a run; none if the recipe is unknown.

    Raises:
        ValueError: this checkout does not have it.
    """
    known = sorted(path.stem for path in (CONFIGS / "recipe").glob("*.yaml"))
    if run.recipe is None:
        return []
    if run.recipe not in known:
        raise ValueError(
            f"{run.folder} was trained with recipe={printable(run.recipe)}, which this checkout does not have: choose "
            f"from {', '.join(known)}."
        )
    return [f"recipe={run.recipe}"]


def trusted_packages(arguments: list[str]) -> list[str]:
    """Return the packages in `allowed_targets=[…]` of a command line."""
    values = [override.value() for override in parse(arguments) if override.key_or_group == "allowed_targets"]
    return [str(name) for value in values for name in (value if isinstance(value, list) else [value])]


def resume_job(cfg: DictConfig, folder: Path) -> bool:
    """Resume a sweep job that was started before, taking only the checkpoint and the seed from its folder.

    Returns:
        Whether the job is resumed.
    """
    if cfg.resume or not (folder / JOB).is_file() or not (folder / RECORD).is_file():
        return False
    run = Run(folder)
    check_recipe(run)
    cfg.resume = str(folder)
    if (seed := run.seed) is not None:
        cfg.seed = seed
    if (ckpt_path := run.resumable_checkpoint()) is not None:
        cfg.ckpt_path = str(ckpt_path)
    return True


def check_recipe(run: Run) -> None:
    """Check that a job of a sweep continues with the recipe that it was started with.

    Raises:
        ValueError: its model has another recipe now.
    """
    chosen = HydraConfig.get().runtime.choices.get("recipe") if HydraConfig.initialized() else run.recipe
    if run.recipe not in (None, chosen):
        raise ValueError(
            f"{run.folder} was started with recipe={printable(str(run.recipe))}, but its recipe is now {chosen}: "
            "add the first to the command of the sweep, or choose another name for it with sweep=."
        )
