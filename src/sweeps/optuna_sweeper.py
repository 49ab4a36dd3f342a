"""Sweep with an Optuna study, which chooses each trial from the results so far."""

import logging
import math
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig

from src.config.objectives import objectives
from src.config.quoting import name_of
from src.run.file_names import JOB
from src.run.status import FAILED, FINISHED, INTERRUPTED, PENDING, PRUNED
from src.sweeps.jobs import Job
from src.sweeps.objectives import Objective, rerun_command
from src.sweeps.space import SearchSpace, override_text
from src.sweeps.study import attribute, check_values, open_study, trial_of
from src.sweeps.sweeper import ResumableSweeper, wait_for
from src.system.json_files import write_whole
from src.system.locks import is_locked, locked
from src.system.safe_files import printable

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

RESULTS = "optimization_results.yaml"
LAUNCHERS = ".launchers"  # one folder per launching process, locked while it lives
FOLDER, LAUNCHER, RETRY_OF = "folder", "launcher", "retry_of"  # user attributes of a trial


class OptunaSweeper(ResumableSweeper):
    """Hydra's sweeper for studies; a trial is a job of the same number.

    In the folder of an earlier sweep the study continues: interrupted trials from their checkpoints, then new ones
    until there are `n_trials` in total. Several processes may do so at once, in one folder or, with a shared storage,
    in several.

    Args:
        direction: `maximize` or `minimize`, or a list if `optimized_metric` is one; None: from the score's mode and the
            names of other metrics.
        n_trials: number of trials of the study, in total.
        sampler: configuration of Optuna's sampler.
        pruner: configuration of the pruner; None: no pruning.
        prune_by: the metric of each validated epoch that the pruner compares.
        storage: path of a journal file, or the URL of a database.
        study_name: name of the study in its storage.
        conditional_params: further `params` for each condition, such as `model=mnist_cnn_68k`.
        options: see `ResumableSweeper`.
    """

    def __init__(
        self,
        direction: str | ListConfig | None,
        n_trials: int,
        sampler: DictConfig,
        pruner: DictConfig | None,
        prune_by: str | None,
        storage: str,
        study_name: str,
        conditional_params: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.directions = [direction] if isinstance(direction, str) else list(direction or [])
        for one in self.directions:
            if one not in ("maximize", "minimize"):
                raise ValueError(f"hydra.sweeper.direction={one} must be maximize or minimize.")
        if n_trials < 1:
            raise ValueError(f"hydra.sweeper.n_trials={n_trials} must be at least 1.")
        self.n_trials, self.sampler, self.pruner, self.prune_by = n_trials, sampler, pruner, prune_by
        self.storage, self.study_name = storage, study_name
        self.conditional_params = conditional_params or {}

    def run(self, overrides: dict[str, Override]) -> list[Job]:
        """Run trials until the study has `n_trials`."""
        names = self._names()
        conditional = {
            condition: {key: self.parse([override_text(key, value)])[0] for key, value in parts.items()}
            for condition, parts in self.conditional_params.items()
        }
        self.space = SearchSpace(overrides, conditional, lambda text: self.parse([text])[0])
        total = self.n_trials
        if self._is_grid():
            total = min(total, math.prod(len(values) for values in self.space.grid().values()))
        self.check(self.space.rows())
        if self.directions:
            pairs = zip(names, self.directions, strict=True)
            self.objectives = [Objective(name, direction == "minimize") for name, direction in pairs]
        directions = [one.direction for one in self.objectives]
        self.study = open_study(self.storage, self.study_name, directions)  # a refused study is not created
        check_values(self.study)
        self.jobs = self.open([*map(name_of, overrides), *(key for parts in conditional.values() for key in parts)])
        with self._registered() as launcher:
            self.launch(self._trials(total, launcher, names), total, batch_size=self.n_jobs, ended=self._tell)
        self._report(names)
        retried = self._retried()
        return [job for job in self.jobs.jobs() if job.number not in retried]

    def _names(self) -> list[str]:
        names = objectives(self.config)
        if not names:
            raise ValueError(
                "optimized_metric=null: name the metric to optimise, such as optimized_metric=val/acc_best"
            )
        if self.pruner is not None and max(len(names), len(self.directions)) > 1:
            raise ValueError("A study of several objectives can't prune: use hydra/sweeper/pruner=none.")
        if self.directions and len(names) != len(self.directions):
            raise ValueError(
                f"optimized_metric={', '.join(names)} and hydra.sweeper.direction={', '.join(self.directions)}: "
                "give one direction for each metric, or hydra.sweeper.direction=null to derive them from the score."
            )
        if self.pruner is not None and (compared := self._compared(names[0])).startswith("test/"):
            known = compared.replace("test", "val", 1)
            raise ValueError(
                f"{names[0]} is not known during training: set hydra.sweeper.prune_by={known}, or another metric of "
                "each epoch, or hydra/sweeper/pruner=none."
            )
        return names

    def _compared(self, objective: str) -> str:
        return self.prune_by or objective.removesuffix("_best")

    def _is_grid(self) -> bool:
        return str(self.sampler._target_).endswith(".GridSampler")

    @contextmanager
    def _registered(self) -> Iterator[Path]:
        """Lock a folder for as long as this process lives, so that others do not treat its trials as orphaned."""
        folder = self.folder / LAUNCHERS / f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        with locked(folder):
            yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def _trials(self, total: int, launcher: Path, objectives: list[str]) -> Iterator[Job]:
        """Yield the job of each trial to run: first those orphaned by dead launchers, then new ones."""
        study: dict[str, Any] = {"storage": self.storage, "name": self.study_name, "objectives": objectives}
        if self.pruner is not None:
            study["prune_by"] = self._compared(objectives[0])

        def job_of(number: int) -> Job:
            trial = trial_of(self.study, number)
            trial.set_user_attr(FOLDER, str(self.folder))
            trial.set_user_attr(LAUNCHER, str(launcher))
            return self.jobs.add(self.space.suggest(trial), number, study={**study, "trial": number})

        with self._drawing():
            orphaned = [job_of(number) for number in self._orphaned()]
            if self.retry_failed:
                self._enqueue_failed()
        wait_for(orphaned)
        for job in orphaned:
            if job.status in (PENDING, INTERRUPTED):
                yield job
            else:  # its launcher ended before it could tell the study
                self._tell(job)
        while True:
            with self._drawing():
                trials = self.study.get_trials(deepcopy=False)
                waiting = any(trial.state.name == "WAITING" for trial in trials)
                if len(trials) - len(self._retried()) >= total and not waiting:
                    return
                # left by another study, or by one whose storage was deleted
                if (self.folder / str(len(trials)) / JOB).is_file():
                    raise ValueError(
                        f"{self.folder} holds a job {len(trials)} that the study {self.study_name} in {self.storage} "
                        "does not have: choose another sweep=<name> for this study."
                    )
                self.study.sampler = self._make_sampler(len(trials))
                job = job_of(self.study.ask().number)
            yield job

    def _drawing(self) -> AbstractContextManager[None]:
        """Let one process at a time draw trials."""
        return locked(self.folder / LAUNCHERS, timeout=math.inf)

    def _make_sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """Return a sampler for one trial, determined by the seed, the trial's number and earlier trials."""
        options: dict[str, Any] = {}
        if self._is_grid():
            options["search_space"] = self.space.grid()
        elif self.sampler.get("seed") is not None:
            options["seed"] = self.sampler.seed + number
        sampler: optuna.samplers.BaseSampler = hydra.utils.instantiate(self.sampler, **options)
        return sampler

    def _orphaned(self) -> list[int]:
        """Return the running trials of this folder whose launchers have ended or been killed."""
        return [
            trial.number
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state.name == "RUNNING" and self._is_ours(trial) and not self._has_launcher(trial)
        ]

    def _has_launcher(self, trial: "optuna.trial.FrozenTrial") -> bool:
        """Return whether the launcher of a trial is alive; the storage provides only the name of its lock."""
        name = Path(attribute(trial, LAUNCHER, str) or "").name
        return bool(name) and is_locked(self.folder / LAUNCHERS / name)

    def _is_ours(self, trial: "optuna.trial.FrozenTrial") -> bool:
        """Return whether a trial belongs to this folder, which may have been moved, or was just drawn."""
        folder = self._folder_of(trial)
        moved = (self.folder / str(trial.number) / JOB).is_file() and not Path(folder).is_dir()
        return folder == str(self.folder) or moved

    def _folder_of(self, trial: "optuna.trial.FrozenTrial") -> str:
        """Return the folder of the sweep that drew a trial."""
        return attribute(trial, FOLDER, str) or str(self.folder)

    def _retried(self) -> set[int]:
        """Return the numbers of failed trials that have been replaced by others."""
        trials = self.study.get_trials(deepcopy=False)
        return {attribute(trial, RETRY_OF, int) for trial in trials} & {trial.number for trial in trials}

    def _enqueue_failed(self) -> None:
        retried = self._retried()
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.name == "FAIL" and trial.number not in retried:
                self.study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})

    def _tell(self, job: Job) -> None:
        """Tell the study how a trial ended."""
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        value = job.facts.get("value")
        self.study.sampler = RandomSampler()  # does nothing at the end of a trial
        if job.status == FINISHED and None not in (value if isinstance(value, list) else [value]):
            self.study.tell(job.number, value, skip_if_finished=True)
        elif job.status == PRUNED:
            self.study.tell(job.number, state=TrialState.PRUNED, skip_if_finished=True)
        elif job.status in (FINISHED, FAILED):  # FINISHED: a value is not a number
            self.study.tell(job.number, state=TrialState.FAIL, skip_if_finished=True)

    def _report(self, names: list[str]) -> None:
        """Log the best trials, and write them to a file."""
        if not any(trial.state.name == "COMPLETE" for trial in self.study.get_trials(deepcopy=False)):
            log.warning("No trial has completed.")
            return
        best: list[dict[str, Any]] = [
            {
                "trial": trial.number,
                "values": dict(zip(names, trial.values, strict=True)),
                "params": trial.params,
                "command": rerun_command(Path(self._folder_of(trial)) / str(trial.number)),
            }
            for trial in self.study.best_trials
        ]
        write_whole(
            self.folder / RESULTS, yaml.safe_dump({"name": "optuna", "best": best}, sort_keys=False, width=math.inf)
        )
        for one in best:
            values = ", ".join(f"{name} {value:.4g}" for name, value in one["values"].items())
            log.info("best trial %d: %s; again: %s", one["trial"], values, printable(one["command"]))
