"""Find a checkpoint, read the configuration it was made with, and check that it fits a model."""

import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.config.stored_config import plain_config
from src.run.checkpoint_names import LAST
from src.system.safe_files import printable, read_yaml
from src.system.wording import counted

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # torch costs seconds to import, and a missing file is found without it
    from torch import nn

CONFIG = Path(".hydra", "config.yaml")  # of a run, in its folder
CONFIG_KEY = "config"  # where a checkpoint keeps the run's configuration
INPUT_KEY = "input_card"  # and how an image becomes an input
RESUME_KEY = "exact_resume"  # and what Lightning leaves out that a run is resumed with


def find_checkpoint(run_dir: str | Path, key: str = "run_dir") -> Path:
    """The best checkpoint of a run, or the last one where none was kept for being the best.

    Args:
        run_dir: the folder of the run.
        key: of the configuration, that names the folder.

    Raises:
        FileNotFoundError: there is no such folder, or no checkpoint in it, or the best one is gone.
        ValueError: there are several, and the one that says which is the best is damaged.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{key}={run_dir} is not a folder; runs lie in logs/train/runs/.")
    epochs = [path for path in (folder / "checkpoints").glob("epoch_*.ckpt") if path.is_file()]  # and no pipe
    last = folder / "checkpoints" / LAST
    if len(epochs) > 1:
        return recorded_best(last if last.is_file() else max(epochs))
    if epochs or last.is_file():
        return epochs[0] if epochs else last
    raise FileNotFoundError(f"{key}={run_dir} holds no run: there is no checkpoint in {folder / 'checkpoints'}.")


def recorded_best(ckpt_path: Path) -> Path:
    """The checkpoint that was the best when another one of its folder was written, as ModelCheckpoint recorded it.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: the file is damaged, or has no such record.
    """
    states = read_checkpoint(ckpt_path).get("callbacks")
    monitored = [
        state["best_model_path"]
        for state in (states.values() if isinstance(states, dict) else ())
        if isinstance(state, dict) and state.get("monitor") and isinstance(state.get("best_model_path"), str)
    ]
    if not monitored or not monitored[0]:
        raise ValueError(f"{ckpt_path} does not say which checkpoint is the best: name one with ckpt_path=….ckpt")
    best = ckpt_path.with_name(Path(monitored[0]).name)  # the folder may have been moved or copied since
    if not best.is_file():
        raise FileNotFoundError(f"{best}, the best checkpoint of its run, is gone: name another with ckpt_path=….ckpt")
    return best


def find_weights(init_from: str | Path) -> Path:
    """The checkpoint that `init_from` names: a file, or the best one in the folder of a run.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(init_from)
    if path.is_dir():
        return find_checkpoint(path, "init_from")
    if not path.is_file():
        raise FileNotFoundError(
            f"init_from={init_from} is neither a run nor a checkpoint; runs lie in logs/train/runs/."
        )
    return path


def check_left(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Check that a run which goes on with the checkpoint of another one has something left to train.

    Args:
        ckpt_path: the checkpoint.
        max_epochs: of the trainer; -1 or None: no limit.
        max_steps: of the trainer; -1: no limit.

    Raises:
        ValueError: it would end at once, or the file holds weights alone.
    """
    checkpoint = read_checkpoint(ckpt_path)
    if "loops" not in checkpoint:  # of Trainer.save_checkpoint(weights_only=True)
        raise ValueError(
            f"ckpt_path={ckpt_path} holds no training state, only weights: start a new run with init_from={ckpt_path}."
        )
    done, why, way_out = progress_of(checkpoint, max_epochs, max_steps)
    if why:
        raise ValueError(
            f"ckpt_path={ckpt_path} has had {done}, and nothing is left to train ({why}): "
            f"{way_out}start anew from its weights with init_from={ckpt_path}."
        )


def log_if_finished(ckpt_path: Path, max_epochs: int | None, max_steps: int) -> None:
    """Log that a resumed run is already finished, if it is.

    Args:
        ckpt_path: its checkpoint.
        max_epochs: of the trainer; -1 or None: no limit.
        max_steps: of the trainer; -1: no limit.
    """
    done, why, _ = progress_of(read_checkpoint(ckpt_path), max_epochs, max_steps)
    if why:
        log.info("This run has finished already, after %s (%s): nothing is left to train.", done, why)


def progress_of(checkpoint: dict[str, Any], max_epochs: int | None, max_steps: int) -> tuple[str, str, str]:
    """Describe a checkpoint's progress, why training is complete and which limit to raise (both empty if it is not)."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps = checkpoint["global_step"]
    limits = {"trainer.max_epochs": (max_epochs, epochs), "trainer.max_steps": (max_steps, steps)}
    reached = {key: most for key, (most, done) in limits.items() if most is not None and 0 <= most <= done}
    why = ", ".join(f"{key}={most}" for key, most in reached.items())
    if not reached and checkpoint.get(RESUME_KEY, {}).get("should_stop"):
        why = "its run was stopped early"
    done = f"{counted(epochs, 'epoch')} and {counted(steps, 'step')}"
    return done, why, f"raise {' and '.join(reached)}, or " if reached else ""


def check_file(ckpt_path: str | Path) -> Path:
    """The path of a checkpoint that exists.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = Path(ckpt_path)
    if not path.is_file():
        raise FileNotFoundError(f"ckpt_path={ckpt_path} is not a file; checkpoints lie in <run>/checkpoints/.")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this project without running code from it.

    Raises:
        ValueError: the file is truncated, damaged or something else.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:  # a checkpoint is an archive with a checksum for each tensor
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:  # torch compresses nothing
                raise zipfile.BadZipFile("it would unpack to more than it is")
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"the checksum of {damaged} differs")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged file may do to its readers
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is no checkpoint that can be read: it is truncated or damaged ({reason}).") from error
    if not isinstance(checkpoint, dict) or not isinstance(weights := checkpoint.get("state_dict"), dict):
        raise ValueError(f"{path} is not a checkpoint of a run: it has no state_dict.")
    from src.run.checkpoint_tensors import entry_fault

    if odd := next(
        (f"{name!a} {fault}" for name, value in weights.items() if (fault := entry_fault(name, value))), None
    ):
        raise ValueError(f"{path} is no checkpoint that can be used: in its state_dict {odd}.")
    return checkpoint


def read_run_config(ckpt_path: Path) -> dict[str, Any]:
    """The configuration of the run that made a checkpoint, as plain values.

    It lies in the run directory and, where the checkpoint has been moved away from there, in the checkpoint itself.

    Raises:
        ValueError: there is none, it is damaged, or it holds more than plain values.
    """
    run_dir = ckpt_path.resolve().parent.parent
    in_run_dir = ckpt_path.parent.parent / CONFIG
    if in_run_dir.is_file():
        return plain_config(read_yaml(in_run_dir), str(in_run_dir), run_dir)
    config = read_checkpoint(ckpt_path).get(CONFIG_KEY)
    if config is None:
        raise ValueError(f"{ckpt_path} holds no configuration: it was not made by src/train.py.")
    return plain_config(config, str(ckpt_path), run_dir)


def check_fits(ckpt_path: Path, model: "nn.Module") -> dict[str, Any]:
    """Read a checkpoint and check that its parameters have the names and shapes of the model's, and are such numbers.

    Raises:
        ValueError: says how many differ, and which come first.
    """
    checkpoint = read_checkpoint(ckpt_path)
    from src.run.checkpoint_tensors import shape_and_kind

    theirs, ours = shape_and_kind(checkpoint["state_dict"]), shape_and_kind(model.state_dict())
    different = [
        f"{printable(name)} is {theirs.get(name, 'missing')} in the checkpoint and {ours.get(name, 'missing')} in the "
        "model"
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if theirs.get(name) != ours.get(name)
    ]
    if different:
        first, count = "; ".join(different[:3]), len({*ours, *theirs})
        raise ValueError(
            f"{ckpt_path} is of another architecture: {len(different)} of {counted(count, 'tensor')} differ ({first}"
            f"{'; …' if len(different) > 3 else ''}). Omit model=… when naming a run (its own net is used), "
            f"or start training from the matching weights: init_from={ckpt_path}"
        )
    return checkpoint
