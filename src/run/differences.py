"""Compare a run with the recorded run that it resumes or reproduces."""

import logging
from typing import Any

from src.run.recorded_overrides import VOLATILE
from src.run.run import Run
from src.system.safe_files import printable

log = logging.getLogger(__name__)

ENVIRONMENT = ("git_commit", "git_dirty", "python", "platform", "cpu", "cpus", "threads", "processes", "teacher.sha256")
ABSENT = "not there"  # stands for a missing value, also in `run.json`


def log_differences(config: dict[str, Any], run: Run, record: dict[str, Any]) -> None:
    """Log the differences from a recorded run: configuration, code, packages, processor, threads, data, teacher.

    Args:
        config: the configuration of this run, as plain dicts and lists.
        run: the recorded run.
        record: the `run.json` of this run.
    """
    lines = [difference_line(key, *pair) for key, pair in differences(config, run).items()]
    if config.get("reproduce"):  # a reproduction uses the final values from its first step on
        resumed = changed(run.record)
        lines += [f"{difference_line(key, *pair)} (changed on resume)" for key, pair in resumed.items()]
    before, now = flatten(run.record), flatten(record)
    for key in sorted({*before, *now}):
        compared = key in ENVIRONMENT or key.startswith(("packages.", "data."))
        if compared and before.get(key) != now.get(key):
            lines.append(difference_line(key, before.get(key, ABSENT), now.get(key, ABSENT)))
    if lines:
        log.warning("Different from %s:\n%s", run.folder, "\n".join(map(printable, lines)))
    else:
        log.info("Nothing differs from %s: configuration, code, packages, processor, threads and data.", run.folder)


def differences(config: dict[str, Any], run: Run) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ from a recorded run's configuration: (recorded, current), by dotted key."""
    recorded = run.stored_config
    before, after = flatten_without_run_dir(recorded), flatten_without_run_dir(config)
    volatile = [*VOLATILE, "sweep", "data.download", "format"]
    if config.get("resume") or recorded.get("resume"):  # it starts from its own checkpoint
        volatile.append("ckpt_path")
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key) and key not in volatile]
    return {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys}


def difference_line(key: str, before: Any, after: Any) -> str:
    """Format a difference for the log."""
    before, after = ("absent" if value == ABSENT else value for value in (before, after))
    return f"  {key}: {before} -> {after}"


def changed(record: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values changed by resuming a run, from its `run.json`: (first, last), by dotted key."""
    values: dict[str, tuple[Any, Any]] = {}
    resumed = record.get("resumed")
    for entry in resumed if isinstance(resumed, list) else []:
        changes = entry.get("changed") if isinstance(entry, dict) else None
        for key, pair in changes.items() if isinstance(changes, dict) else ():
            if isinstance(pair, list) and len(pair) == 2:
                values[key] = (values[key][0] if key in values else pair[0], pair[1])
    return {key: (first, last) for key, (first, last) in values.items() if first != last}


def flatten_without_run_dir(config: dict[str, Any]) -> dict[str, Any]:
    """Flatten a configuration, with a placeholder for the run's own folder in paths."""
    paths = config.get("paths")
    folder = str(paths.get("output_dir")) if isinstance(paths, dict) else ""
    values = flatten(config)
    if not folder:
        return values
    return {key: value.replace(folder, "<run>") if isinstance(value, str) else value for key, value in values.items()}


def flatten(node: Any, key: str = "") -> dict[str, Any]:
    """Flatten nested dicts to dotted keys."""
    if not isinstance(node, dict):
        return {key: node}
    return {
        name: value
        for child, content in node.items()
        for name, value in flatten(content, f"{key}.{child}" if key else str(child)).items()
    }
