"""A study of Optuna: where it is kept, and how a trial is found in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

if TYPE_CHECKING:
    import optuna

EXTRA = "hydra/sweeper=optuna needs a package that is not installed: pip install -e '.[sweep]'"


def open_study(
    storage: str, name: str, directions: Sequence[Any] | None = None, pruner: Mapping[str, Any] | None = None
) -> "optuna.Study":
    """Open a study, or begin it where its directions are given.

    Args:
        storage: the path of a journal file, or the URL of a database, such as `sqlite:///logs/studies.db`.
        name: of the study within its storage, which may keep several.
        directions: `maximize` or `minimize` for each objective.
        pruner: the configuration of what gives up hopeless trials; None: nothing does.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: the storage is locked, damaged, or that of another version; or the study has other directions.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(EXTRA) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our tables tell how trials do
    options: dict[str, Any] = {
        "study_name": name,
        "sampler": optuna.samplers.RandomSampler(),  # whoever asks for trials puts another in its place
        "pruner": hydra.utils.instantiate(pruner) if pruner else optuna.pruners.NopPruner(),
    }
    try:
        if "://" in storage:
            kept: Any = RDBStorage(storage)
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            kept = JournalStorage(JournalFileBackend(storage))
        if directions is None:
            return optuna.load_study(storage=kept, **options)
        study = optuna.create_study(storage=kept, directions=[*directions], load_if_exists=True, **options)
    except Exception as error:  # of whatever kind the storage's engine raises
        raise ValueError(f"The study {name} cannot be opened in {storage}: {reason(error)}") from error
    found = [direction.name.lower() for direction in study.directions]
    if found != list(directions):
        raise ValueError(
            f"hydra.sweeper.direction={', '.join(directions)}: the study {name} in {storage} wants to "
            f"{', '.join(found)}; choose another hydra.sweeper.study_name, or say "
            f"hydra.sweeper.direction=[{','.join(found)}] to go on with it."
        )
    return study


def reason(error: BaseException) -> str:
    """Why a storage can't be used, as far as its engine tells."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().partition("\n")[0]
    if "locked" in text:
        return "another program has locked it; try again when that has ended."
    if "runtime optuna version" in text or isinstance(error, AssertionError):  # a database; a journal
        return "another version of Optuna made it; choose another hydra.sweeper.storage, or install that version."
    if isinstance(error, ValueError | KeyError | TypeError):  # what a file comes to that is none of Optuna's
        return "it is no storage of a study, or damaged."
    return text or type(error).__name__


def trial_of(study: "optuna.Study", number: int) -> "optuna.trial.Trial":
    """The trial with a number, to report to and to ask for the rest of its parameters."""
    from optuna.trial import Trial

    (found,) = [trial for trial in study.get_trials(deepcopy=False) if trial.number == number]
    return Trial(study, found._trial_id)
