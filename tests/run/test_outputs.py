"""Callbacks and loggers write where the configuration says, and overwrite nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from omegaconf import DictConfig

from src.run.outputs import check_outputs, set_aside_csv_logs
from src.train import train
from tests.conftest import TINY_RUN

Compose = Callable[..., DictConfig]


def write(logger: CSVLogger, value: float) -> Path:
    """Log as a run does; return the resulting table."""
    set_aside_csv_logs([logger])
    logger.log_hyperparams({"value": value})
    logger.log_metrics({"loss": value}, step=0)
    logger.save()
    return Path(logger.log_dir, "metrics.csv")


def test_tables_of_former_runs_are_kept(tmp_path: Path) -> None:
    for value in range(4):
        table = write(CSVLogger(tmp_path, name="csv", version=""), value)
    assert table == tmp_path / "csv" / "metrics.csv" and "\n3,0" in table.read_text()
    (tmp_path / "metrics_before_0.csv").unlink()  # the number of those that are left is taken by one of them
    write(CSVLogger(tmp_path, name="csv", version=""), 4)
    for number, value in enumerate((3, 1, 2)):
        assert f"\n{value},0" in (tmp_path / f"metrics_before_{number}.csv").read_text()
    assert (tmp_path / "hparams_before_2.yaml").read_text() == "value: 2\n"


def test_tables_under_versions_of_their_own_stay_where_they_are(tmp_path: Path) -> None:
    tables = [write(CSVLogger(tmp_path, name="mine"), value) for value in range(2)]
    assert [table.parent.name for table in tables] == ["version_0", "version_1"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_link_where_a_logger_or_a_callback_writes_is_refused(compose: Compose, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    run_dir = tmp_path / "run"
    cfg = compose(f"paths.output_dir={run_dir}", "callbacks.image_report.dirpath=${paths.output_dir}/pictures")
    logger = CSVLogger(run_dir, name="tables")
    for name in ("tables", "pictures"):
        run_dir.mkdir()
        check_outputs(cfg, [logger])
        (run_dir / name).symlink_to(outside)
        with pytest.raises(ValueError, match=f"run/{name} is a symbolic link"):
            check_outputs(cfg, [logger])
        (run_dir / name).unlink()
        run_dir.rmdir()
    elsewhere = CSVLogger(tmp_path / "elsewhere", name="tables")  # the user chose it
    check_outputs(cfg, [elsewhere])


def test_the_environment_does_not_get_into_the_name_of_a_folder(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "/etc")
    run_dir = tmp_path / "of $SECRET and $NOTHING"
    cfg = compose()
    cfg.paths.output_dir = str(run_dir)
    logger = TensorBoardLogger(str(run_dir), name="tensorboard", version="")
    with pytest.raises(ValueError, match=r"\$SECRET.* would become .*/etc.* Choose a run directory without"):
        check_outputs(cfg, [logger])
    check_outputs(cfg, [CSVLogger(str(run_dir), name="csv", version="")])
    monkeypatch.delenv("SECRET")
    check_outputs(cfg, [logger])


def test_a_new_run_deletes_no_table_of_another_and_writes_through_no_link(compose: Compose, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    options = ["model=simple_mlp", "data=synthetic", "data.channels=1", "data.image_size=28", *TINY_RUN]
    options += ["callbacks=none", "logger=csv", f"logger.csv.save_dir={shared}"]
    train(compose(*options, f"paths.output_dir={tmp_path}/first"))
    first = (shared / "csv" / "metrics.csv").read_text()
    train(compose(*options, f"paths.output_dir={tmp_path}/second", "seed=7"))
    assert (shared / "metrics_before_0.csv").read_text() == first
    assert (shared / "csv" / "metrics.csv").read_text() != first
    (tmp_path / "second" / "checkpoints").symlink_to(shared)
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    with pytest.raises(ValueError, match="second/checkpoints is a symbolic link"):
        train(compose(*options, f"paths.output_dir={tmp_path}/second"))
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*")} == before
