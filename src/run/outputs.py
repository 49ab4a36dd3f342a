"""Make callbacks and loggers write only inside the run's folder, without overwriting existing files."""

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from omegaconf import DictConfig

from src.system.links import check_links
from src.system.ranks import is_rank_zero

CSV_LOGGER_FILES = ("metrics.csv", "hparams.yaml")


def check_outputs(cfg: DictConfig, loggers: Iterable[Logger]) -> None:
    """Check that the outputs below the run's folder stay there.

    Raises:
        ValueError: a symbolic link leads out of it, or TensorBoard's logger would expand a variable in its name.
    """
    folder = Path(cfg.paths.output_dir)
    paths = [Path(logger.log_dir) for logger in loggers if logger.log_dir]
    paths += [Path(one.dirpath) for one in (cfg.get("callbacks") or {}).values() if one and one.get("dirpath")]
    check_links(folder, {path.relative_to(folder).parts[0] for path in paths if folder in path.parents})
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger) and folder not in Path(logger.log_dir).parents:
            requested = Path(logger.root_dir)
            if folder in requested.parents:
                raise ValueError(
                    f"{requested} would become {logger.log_dir}: TensorBoard's logger expands environment "
                    "variables after $. Choose a run directory without $, or logger=csv."
                )


def set_aside_csv_logs(loggers: Iterable[Logger]) -> None:
    """Rename existing files of the CSV logger, which it would overwrite."""
    for logger in loggers:
        if isinstance(logger, CSVLogger) and is_rank_zero():
            for previous in (Path(logger.log_dir, name) for name in CSV_LOGGER_FILES):
                stem, suffix = previous.stem, previous.suffix
                targets = (Path(logger.save_dir, f"{stem}_before_{number}{suffix}") for number in count())
                if previous.is_file():
                    previous.replace(next(target for target in targets if not target.exists()))
