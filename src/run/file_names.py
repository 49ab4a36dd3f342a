"""Names of the files in a run's folder."""

from pathlib import Path

CONFIG = Path(".hydra", "config.yaml")  # the resolved configuration
OVERRIDES = Path(".hydra", "overrides.yaml")  # the overrides that the run was started with
RECORD = "run.json"  # what the run ran on
METRICS = "metrics.json"
TEST_REPORT = "test_report.json"
CALIBRATION = "calibration.json"  # temperatures, which src/explain.py has fitted
TRACEBACK = "traceback.txt"
JOB, STATUS = "job.json", "status.json"  # files of a sweep's job: its overrides and its progress
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the version before, in case the last one is damaged
