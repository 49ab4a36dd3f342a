"""Write the hyperparameters and metrics of a run for TensorBoard's HParams tab."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.metadata import (
    EXPERIMENT_TAG,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch.utils.tensorboard import SummaryWriter

from src.run.scores import metrics_of

FIELDS = {DATA_TYPE_BOOL: "bool_value", DATA_TYPE_FLOAT64: "number_value", DATA_TYPE_STRING: "string_value"}
EVENT_FILE_SUFFIX = ".hparams"  # names event files that hold only HParams data
LEARNING_RATE = "model.optimizer.lr"
SHOWN_METRICS = ("val/loss", "params", "test/loss", "epoch_seconds", "images_per_second")  # after the scores
# Other metrics are shown by the last value of their curve. A summary value must not be added to a curve at an earlier
# step, because TensorBoard would treat that as a restart and drop the curve.
SUMMARY_TAGS = {
    "params": "params",
    "epoch_seconds": "median/epoch_seconds",
    "images_per_second": "median/images_per_second",
}


def log_hyperparameters(
    logger: TensorBoardLogger,
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    scores: Sequence[str],
    step: int,
) -> None:
    """Write a run's hyperparameters and metrics, replacing those from before it was resumed.

    Args:
        logger: the logger of the run.
        values: hyperparameters by dotted name.
        metrics: the metrics of the run; those of `SHOWN_METRICS` are shown after the scores.
        scores: names of the metrics that models are compared by.
        step: the optimizer step at the end of the run.
    """
    (Path(logger.log_dir) / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)  # Lightning would keep the old file
    logger.log_hyperparams(dict(values))  # for hparams.yaml; without metrics Lightning writes no events
    shown = [*(name for score in scores for name in metrics_of(score)), *SHOWN_METRICS]
    summary_tags = SUMMARY_TAGS | {name: name for name in shown if name.endswith("_best")}
    for name, tag in summary_tags.items():
        if name in metrics:
            logger.experiment.add_scalar(tag, metrics[name], step)
    # TensorBoard reads the columns of all runs from any one of them, so each run lists all metrics; the first five are
    # ticked
    tags = {name: summary_tags.get(name, name) for name in shown}
    columns = [MetricInfo(name=MetricName(tag=tag), display_name=name) for name, tag in tags.items()]
    first = {LEARNING_RATE, *overridden_keys()}
    infos = [HParamInfo(name=name, type=data_type(value), differs=name in first) for name, value in values.items()]
    start = SessionStartInfo(start_time_secs=time.time())
    for name, value in values.items():
        setattr(start.hparams[name], FIELDS[data_type(value)], value)
    messages = {
        EXPERIMENT_TAG: HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=columns)),
        SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=SessionEndInfo(status=STATUS_SUCCESS)),
    }
    logger.experiment.flush()  # TensorBoard reads the files one after another
    folder = Path(logger.log_dir)
    for previous in folder.glob(f"*{EVENT_FILE_SUFFIX}"):  # TensorBoard uses the first row that it finds
        previous.unlink()
    with SummaryWriter(logger.log_dir, filename_suffix=EVENT_FILE_SUFFIX) as writer:
        for tag, message in messages.items():
            content = Summary.Value(tag=tag, metadata=create_summary_metadata(message))
            writer._get_file_writer().add_summary(Summary(value=[content]))


def overridden_keys() -> set[str]:
    """Return the keys set on the command line, in which the jobs of a sweep differ."""
    if not HydraConfig.initialized():
        return set()
    return {override.lstrip("+~").partition("=")[0] for override in HydraConfig.get().overrides.task}


def data_type(value: Any) -> int:
    """Return TensorBoard's constant for the type of a value."""
    if isinstance(value, bool):
        return DATA_TYPE_BOOL
    return DATA_TYPE_FLOAT64 if isinstance(value, int | float) else DATA_TYPE_STRING
