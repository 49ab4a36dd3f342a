"""Store the temperatures of a run: its logits are divided by them to calibrate the probabilities."""

from collections.abc import Mapping
from pathlib import Path

from src.predictor import MIN_TEMPERATURE, is_number, sha256
from src.run.file_names import CALIBRATION
from src.system.json_files import part, read_json, write_json


def write_temperatures(ckpt_path: Path, temperatures: Mapping[str, float], samples: int) -> Path:
    """Write the temperature of each output of a checkpoint, fitted to a number of samples, to its run.

    Returns:
        The path of the file.

    Raises:
        ValueError: the run has temperatures of this checkpoint that were fitted to more samples.
    """
    path = ckpt_path.parent.parent / CALIBRATION
    checksum, known = sha256(ckpt_path), read_json(path)
    fitted_to = known.get("samples")
    if known.get("sha256") == checksum and isinstance(fitted_to, int) and fitted_to > samples:
        raise ValueError(f"{path} has temperatures that were fitted to {fitted_to:,} samples, not to {samples:,}")
    content = {"checkpoint": ckpt_path.name, "sha256": checksum, "samples": samples}
    write_json(path, {**content, "temperatures": dict(temperatures)})
    return path


def read_temperatures(ckpt_path: Path) -> dict[str, float]:
    """Return the temperature of each output of a calibrated checkpoint.

    Raises:
        ValueError: there are no temperatures, they belong to another checkpoint of the run, or the file is damaged.
    """
    path = ckpt_path.parent.parent / CALIBRATION
    advice = f"fit temperatures with python src/explain.py ckpt_path={ckpt_path}"
    if not path.exists():
        raise ValueError(f"calibrated=true needs {path}, which does not exist: {advice}")
    content = read_json(path)
    temperatures = part(content, "temperatures")
    if not temperatures or not all(is_number(one) and one > MIN_TEMPERATURE for one in temperatures.values()):
        raise ValueError(f"{path} is damaged: {advice}")
    if content.get("sha256") != sha256(ckpt_path):
        raise ValueError(f"{path} belongs to a checkpoint other than {ckpt_path}: {advice}")
    return temperatures
