"""All sections about a run, in the order of the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.data.protocols import ComputesChecksums
from src.explanation.attribution import attribution_section
from src.explanation.calibration import calibration_section
from src.explanation.label_errors import label_errors_section
from src.explanation.mistakes import classes_section, confusions_section, worst_section
from src.explanation.ood import ood_section
from src.explanation.other_data import other_datamodule
from src.explanation.page import section_or_reason
from src.explanation.robustness import robustness_section
from src.explanation.section import Section
from src.explanation.subject import Subject
from src.explanation.units import units_section
from src.models.counting import count_parameters
from src.run.calibration import write_temperatures
from src.run.file_names import CHECKPOINTS
from src.run.run import Run


def explain_run(
    subject: Subject, cfg: DictConfig, ckpt_path: Path
) -> tuple[dict[str, str], dict[str, Section], dict[str, float]]:
    """Examine a run.

    Returns:
        The facts for the head of the page, the sections by name, and the temperatures of the outputs.
    """
    other = other_datamodule(cfg.ood, cfg, subject.input_card) if cfg.ood else None
    test, temperatures = subject.splits["test"], dict[str, float]()

    def calibration() -> Section:
        section, fitted = calibration_section(subject)
        temperatures.update(fitted)
        return section

    sections: dict[str, tuple[str, Callable[[], Section]]] = {
        "classes": ("By class", lambda: classes_section(subject)),
        "confusions": ("Confusions", lambda: confusions_section(subject)),
        "worst": ("Worst samples", lambda: worst_section(subject)),
        "attribution": ("What the net looks at", lambda: attribution_section(subject)),
        "calibration": ("Calibration", calibration),
        "robustness": ("Robustness", lambda: robustness_section(subject)),
        "ood": ("Out-of-distribution data", lambda: ood_section(subject, cfg.ood, other)),
        "label_errors": ("Labels to check", lambda: label_errors_section(subject)),
        "units": ("Units", lambda: units_section(subject)),
    }
    facts = {
        "run": str(ckpt_path.parent.parent),
        "checkpoint": ckpt_path.name,
        "net": f"{type(subject.task.net).__name__}, {count_parameters(subject.task):,} parameters",
        "data": f"{type(subject.datamodule).__name__}, {test.described} test samples",
        f"test {subject.task.score}": f"{subject.score('test'):.4f}",
    }
    made = {key: section_or_reason(title, make) for key, (title, make) in sections.items()}
    return facts, made, temperatures


def keep_temperatures(temperatures: Mapping[str, float], subject: Subject, ckpt_path: Path) -> str:
    """Write temperatures to the run whose validation samples they were fitted to, and return a status line."""
    if ckpt_path.parent.name != CHECKPOINTS:
        return f"temperatures: not kept, because {ckpt_path} is not in the folder of a run"
    if not is_data_of(Run.open(ckpt_path, "ckpt_path"), subject.datamodule):
        return "temperatures: not kept, because the run has other validation samples"
    try:
        path = write_temperatures(ckpt_path, temperatures, len(subject.splits["val"]))
    except ValueError as error:  # fitted to more samples before
        return f"temperatures: not kept, because {error}"
    return f"temperatures: {path}; calibrated=true uses them"


def is_data_of(run: Run, datamodule: Any) -> bool:
    """Return whether the validation samples are those recorded by a run; true if it has recorded none."""
    recorded = run.record.get("data")
    checksum = recorded.get("val") if isinstance(recorded, dict) else None
    if checksum is None:
        return True
    return isinstance(datamodule, ComputesChecksums) and checksum == datamodule.checksums()["val"]
