"""Rerun a recorded run: `resume=<run_dir>` continues it, `reproduce=<run_dir>` repeats it in a new folder."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from src.config.composing import parse
from src.config.quoting import name_of, path_of, quote, quote_paths
from src.config.stored_config import plain_config
from src.run.checkpoint_names import LAST, PREVIOUS
from src.run.checkpoints import CONFIG, read_checkpoint
from src.run.recorded_overrides import OVERRIDES, admitted_overrides, parse_recorded
from src.run.status import JOB
from src.system.json_files import read_json, write_whole
from src.system.links import check_links
from src.system.locks import locked
from src.system.ranks import broadcast_from_rank_zero, folder_before_restart, move_rendezvous
from src.system.safe_files import printable, read_yaml

log = logging.getLogger(__name__)

DAMAGED = ".damaged"  # after the name of a checkpoint that is set aside
OWN = ("resume", "reproduce", "seed")  # expected to differ between a run and its rerun


def expand_command_line() -> None:
    """Put what `resume=` or `reproduce=` stands for into this program's arguments.

    Processes that torchrun restarts after a failure continue their run, as with `resume=`.
    """

    def expanded() -> list[str]:
        folder = folder_before_restart()
        if folder is None or not (Path(folder) / OVERRIDES).is_file():
            return expand(sys.argv[1:])
        # keep what the user typed: it may name code and folders that a record may not
        said = [word for word in sys.argv[1:] if name_of(word) not in (*OWN, "ckpt_path")]
        return expand([f"resume={folder}", *said])

    sys.argv[1:] = json.loads(broadcast_from_rank_zero(lambda: json.dumps(expanded())))
    move_rendezvous()


def expand(arguments: list[str]) -> list[str]:
    """Put the command line of the recorded run in the place of `resume=` or `reproduce=`; further words come after.

    Raises:
        ValueError: both are given, or the record asks for more than a file may.
        FileNotFoundError: the folder is not that of a run.
    """
    asked = [argument for argument in arguments if argument.removeprefix("+").startswith(("resume=", "reproduce="))]
    # with ++ before it, it has been expanded by the process that started this one
    if not asked or asked[0].partition("=")[2] in ("", "null"):
        return arguments
    if len(asked) > 1:
        raise ValueError(f"{' '.join(asked)}: one at a time.")
    if {"-m", "--multirun"} & set(arguments):
        raise ValueError(f"{asked[0]}: a sweep's jobs are run again one by one, without -m: resume=<sweep>/0")
    kind, _, name = asked[0].lstrip("+").partition("=")
    folder = Path(path_of(name))
    if not (folder / OVERRIDES).is_file():
        raise FileNotFoundError(f"{asked[0]}: this is not the folder of a run; they lie in logs/train/runs/.")
    if kind == "resume":
        check_links(folder)  # a damaged checkpoint is renamed below, before Hydra has seen the folder
    further = quote_paths([argument for argument in arguments if argument != asked[0]])
    said = [override.key_or_group for override in parse(further)]
    recorded = admitted_overrides(folder, said, trusted_packages(further))
    run_dir = folder.resolve()
    expanded = [*recorded, f"++{kind}={quote(str(run_dir))}"]
    seed = recorded_seed(folder)
    if seed is not None:
        expanded.append(f"seed={seed}")
    if kind == "resume":
        expanded += [f"hydra.run.dir={quote(str(run_dir))}", "hydra.output_subdir=null"]
        with locked(folder):  # or another process is at its checkpoints
            ckpt_path = newest_good_checkpoint(folder) if "ckpt_path" not in said else None
        if ckpt_path is not None or "ckpt_path" in said:
            expanded = [override for override in expanded if not override.startswith("ckpt_path=")]
        if ckpt_path is not None:
            expanded.append(f"ckpt_path={quote(str(run_dir / 'checkpoints' / ckpt_path.name))}")
        elif "ckpt_path" not in said:
            check_starting_over(folder)
            log.warning("There is no checkpoint in %s/checkpoints yet: the run starts over.", folder)
    return [
        *(word for word in further if word.startswith("-")),
        *expanded,
        *(w for w in further if not w.startswith("-")),
    ]


def recorded_seed(folder: Path) -> int | None:
    """The seed that a run has recorded; None where there is none, or something that is no seed."""
    seed = read_json(folder / "run.json").get("seed")
    return seed if type(seed) is int and 0 <= seed < 2**32 else None


def trusted_packages(arguments: list[str]) -> list[str]:
    """The packages that `allowed_targets=[…]` of a command line trusts."""
    found = [override.value() for override in parse(arguments) if override.key_or_group == "allowed_targets"]
    return [str(name) for value in found for name in (value if isinstance(value, list) else [value])]


def resume_job(cfg: DictConfig, folder: Path) -> bool:
    """Resume a sweep job that has already been started, as `resume=` would, however it is restarted.

    Returns:
        Whether it is resumed; only the checkpoint and the seed come from the folder.
    """
    if cfg.resume or not (folder / JOB).is_file() or not (folder / "run.json").is_file():
        return False
    cfg.resume = str(folder)
    seed = recorded_seed(folder)
    if seed is not None:
        cfg.seed = seed
    ckpt_path = newest_good_checkpoint(folder)
    if ckpt_path is not None:
        cfg.ckpt_path = str(ckpt_path)
    return True


def store_config(config: dict[str, Any], folder: Path) -> None:
    """Keep a run's configuration, resolved, in place of the one that Hydra has written."""
    path = folder / CONFIG
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(config, sort_keys=False))


def record_overrides(folder: Path, overrides: list[str]) -> None:
    """Record the overrides given on resuming, so that the next resume replays them."""
    own = (*OWN, "ckpt_path", "allowed_targets")
    kept = [override for override in overrides if name_of(override) not in own]
    recorded = [str(override.input_line) for override in parse_recorded(folder / OVERRIDES)]
    kept += [override for override in recorded if override.startswith("ckpt_path=")]
    write_whole(folder / OVERRIDES, yaml.safe_dump(kept, sort_keys=False))


def newest_good_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a run or, where that is damaged, the one before; None where there is none yet.

    Raises:
        ValueError: all that there are are damaged, or were when they were set aside.
    """
    found = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    aside = [path for path in map(set_aside, found) if path.is_file()]
    found = [path for path in found if path.is_file()]
    for path in found:
        try:
            read_checkpoint(path)
        except ValueError as error:
            aside.append(path.replace(set_aside(path)))
            log.warning("%s It is set aside as %s.", printable(str(error)), aside[-1].name)
        else:
            return path
    if aside:
        names = sorted({path.name.removesuffix(DAMAGED) for path in aside})
        told = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} damaged"
        raise ValueError(f"{folder} cannot be resumed: {told}, and set aside; {recovery_hint(folder)}")
    return None


def set_aside(path: Path) -> Path:
    """The name that a damaged checkpoint is given."""
    return path.with_name(f"{path.name}{DAMAGED}")


def check_starting_over(folder: Path) -> None:
    """Check that a run without a last checkpoint has no others that it would write over.

    Raises:
        ValueError: it has; that of the first epoch may be there when a run is killed before its last one is written.
    """
    if trained := [path for path in epoch_checkpoints(folder) if not path.name.startswith("epoch_000")]:
        raise ValueError(f"{folder} has lost its {LAST}, but {trained[-1].name} is there: {recovery_hint(folder)}")


def epoch_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of epochs that a run has kept, in their order."""
    return sorted(path for path in (folder / "checkpoints").glob("epoch_*.ckpt") if path.is_file())


def recovery_hint(folder: Path) -> str:
    """Suggest what to do with a run that cannot be resumed."""
    if not (kept := epoch_checkpoints(folder)):
        return f"there is no other one: train anew, in a folder of its own, with {shlex.quote(f'reproduce={folder}')}"
    resume, ckpt_path, init_from = (
        shlex.quote(f"{key}={value}")
        for key, value in {"resume": folder, "ckpt_path": kept[-1], "init_from": kept[-1]}.items()
    )
    return f"go on from an epoch's with {resume} {ckpt_path}, or start a run from its weights with {init_from}"


def log_differences(config: dict[str, Any], folder: Path, now: dict[str, Any]) -> None:
    """Say what is different from the recorded run: configuration, code, packages, processor, threads, data.

    Args:
        config: of this run, as plain dicts and lists.
        folder: of the recorded run.
        now: what this run runs on, as its `run.json` will say.
    """
    lines = [f"  {key}: {there} -> {here}" for key, (there, here) in differences(config, folder).items()]
    record = read_json(folder / "run.json")
    if config.get("reproduce"):  # a reproduction uses the last values from its first step on
        lines += [f"  {key}: {there}, until it was resumed -> {here}" for key, (there, here) in changed(record).items()]
    recorded = flat(record)
    environment = flat(now)
    same = ("git_commit", "git_dirty", "python", "platform", "cpu", "cpus", "threads", "processes")
    for key in sorted({*recorded, *environment}):
        compared = key in same or key.startswith(("packages.", "data."))
        if compared and recorded.get(key) != environment.get(key):
            lines.append(f"  {key}: {recorded.get(key, 'not there')} -> {environment.get(key, 'not there')}")
    if lines:
        log.warning("Different from %s:\n%s", folder, "\n".join(map(printable, lines)))
    else:
        log.info("Nothing differs from %s: configuration, code, packages, processor, threads and data.", folder)


def differences(config: dict[str, Any], folder: Path) -> dict[str, tuple[Any, Any]]:
    """The values that differ from a recorded run's configuration: (recorded, current), by dotted key."""
    recorded = stored_config(folder)
    before, after = relative(recorded), relative(config)
    # a run that is resumed has a checkpoint of its own in place of the one that it began with
    own = (*OWN, "sweep", "data.download", *(["ckpt_path"] if config.get("resume") or recorded.get("resume") else []))
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key) and key not in own]
    return {key: (before.get(key, "not there"), after.get(key, "not there")) for key in keys}


def changed(record: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was changed when a run was resumed, as its `run.json` tells: the values it began with, and the last."""
    found: dict[str, tuple[Any, Any]] = {}
    resumed = record.get("resumed")
    for entry in resumed if isinstance(resumed, list) else []:
        changes = entry.get("changed") if isinstance(entry, dict) else None
        for key, pair in changes.items() if isinstance(changes, dict) else ():
            if isinstance(pair, list) and len(pair) == 2:
                found[key] = (found[key][0] if key in found else pair[0], pair[1])
    return {key: (first, last) for key, (first, last) in found.items() if first != last}


def stored_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run has stored; nothing where there is none."""
    path = folder / CONFIG
    return plain_config(read_yaml(path), str(path), folder.resolve()) if path.is_file() else {}


def relative(config: dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration under dotted keys, its own folder in their paths being the same for all runs."""
    paths = config.get("paths")
    folder = str(paths.get("output_dir")) if isinstance(paths, dict) else ""
    values = flat(config)
    if not folder:
        return values
    return {key: value.replace(folder, "<run>") if isinstance(value, str) else value for key, value in values.items()}


def flat(node: Any, key: str = "") -> dict[str, Any]:
    """The values of nested dicts under dotted keys."""
    if not isinstance(node, dict):
        return {key: node}
    return {
        name: value
        for child, content in node.items()
        for name, value in flat(content, f"{key}.{child}" if key else str(child)).items()
    }
