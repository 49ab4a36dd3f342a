"""The state of CMA-ES, read from an untrusted study."""

import os
import pickle
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="studies need the extra [sweep]")
pytest.importorskip("cmaes", reason="this sampler needs the extra [sweep]")

from src.sweeps.cmaes import SafeCmaEsSampler


class Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.folder),)


def study_of(kind: type, trials: int = 12) -> "optuna.Study":
    study = optuna.create_study(sampler=kind(seed=1))
    study.optimize(lambda trial: trial.suggest_float("a", 0, 1) + trial.suggest_float("b", 0, 1), trials)
    return study


def test_it_draws_what_optuna_s_own_draws() -> None:
    assert [trial.params for trial in study_of(SafeCmaEsSampler).trials] == [
        trial.params for trial in study_of(optuna.samplers.CmaEsSampler).trials
    ]


@pytest.mark.parametrize("content", ["evil", "plain", "no pickle"])
def test_a_pickle_of_something_else_is_refused_and_runs_nothing(content: str, tmp_path: Path) -> None:
    study = study_of(SafeCmaEsSampler)
    found = {"evil": pickle.dumps(Evil(tmp_path / "pwned")), "plain": pickle.dumps([1]), "no pickle": b"x"}[content]
    kept = study.get_trials(deepcopy=False)[-1].system_attrs
    for key in [key for key in kept if key.startswith("cma:optimizer")]:
        del kept[key]
    kept["cma:optimizer:0"] = found.hex()
    with pytest.raises(ValueError, match="The state of CMA-ES in trial 11 is damaged: "):
        study.ask().suggest_float("a", 0, 1)
    assert not (tmp_path / "pwned").exists()
