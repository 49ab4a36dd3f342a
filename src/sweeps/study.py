"""A study of Optuna: where it is kept, and how a trial is found in it."""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from src.run.status import is_number
from src.system.locks import take
from src.system.safe_files import in_a_line

if TYPE_CHECKING:
    import optuna

SQLITE = "sqlite:///"
MOST_STEPS = 50_000_000  # of SQLite's machine, to read a study: 10,000 trials of 100 epochs take a third
STEPS = 10_000  # after which they are counted
PATIENCE = 60  # seconds for others to write to a journal, which takes them milliseconds
EXTRA = "hydra/sweeper=optuna needs a package that is not installed: pip install -e '.[sweep]'"


def open_study(
    storage: str,
    name: str,
    directions: Sequence[Any] | None = None,
    pruner: Mapping[str, Any] | None = None,
    bounded: bool = False,
) -> "optuna.Study":
    """Open a study, or begin it where its directions are given.

    Args:
        storage: the path of a journal file, or the URL of a database, such as `sqlite:///logs/studies.db`.
        name: of the study within its storage, which may keep several.
        directions: `maximize` or `minimize` for each objective.
        pruner: the configuration of what gives up hopeless trials; None: nothing does.
        bounded: a file of SQLite may come from anywhere: plain tables, in which so much is done and no more.

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
            options_of_engine = {"creator": bounded_database(storage.removeprefix(SQLITE))} if bounded else None
            kept: Any = RDBStorage(storage, engine_kwargs=options_of_engine)
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            kept = JournalStorage(JournalFileBackend(storage, lock_obj=lock_of(storage)))
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


class JournalLock:
    """The kernel's lock on a journal itself, in Optuna's terms; it ends with the process that holds it.

    Optuna's own are files and links that stay when a process is killed.

    Args:
        path: of the journal.
        patience: seconds to wait for another process.
    """

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path, self.patience = path, patience
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Lock the journal.

        Raises:
            TimeoutError: another program has locked it.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            take(descriptor, self.patience)
        except BlockingIOError as error:
            os.close(descriptor)
            raise TimeoutError(f"{self.path} is locked by another program.") from error
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let others lock it."""
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None


def lock_of(journal: str) -> Any:
    """What keeps others from writing to a journal at the same time."""
    if os.name == "posix":
        return JournalLock(journal)
    from optuna.storages.journal import JournalFileOpenLock

    return JournalFileOpenLock(journal)


def bounded_database(path: str) -> Callable[[], sqlite3.Connection]:
    """What connects to a database of SQLite that may hold anything; all connections together end in time.

    Raises:
        DatabaseError: it holds more than tables and indices: a view is a program, which may have no end.
    """
    left = [MOST_STEPS]

    def is_enough() -> bool:
        left[0] -= STEPS
        return left[0] < 0

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.set_progress_handler(is_enough, STEPS)  # a signal is heard there, too
        return connection

    connection = connect()
    try:
        rows = connection.execute("SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')")
        if (found := rows.fetchone()) is not None:
            raise sqlite3.DatabaseError(f"it holds a {found[0]}, which no study has.")
    finally:
        connection.close()
    return connect


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
    if text == "interrupted":  # by the bound of steps
        return "it takes too long to read, and is damaged."
    return text or type(error).__name__


def attribute(trial: "optuna.trial.FrozenTrial", name: str, kind: type) -> Any:
    """What a trial keeps under a name; None where it is lacking, or of another kind than this project writes."""
    found = trial.user_attrs.get(name)
    return found if type(found) is kind else None


def check_values(study: "optuna.Study") -> None:
    """Check that completed trials have numbers for their values, which Optuna takes from its storage as they are.

    Raises:
        ValueError: one has none.
    """
    for trial in study.get_trials(deepcopy=False):
        values = trial.values or []
        if trial.state.name == "COMPLETE" and not (
            len(values) == len(study.directions) and all(map(is_number, values))
        ):
            raise ValueError(
                f"The study {study.study_name} is damaged, trial {trial.number} has the values "
                f"{in_a_line(ValueError(values))}: choose another hydra.sweeper.study_name."
            )


def trial_of(study: "optuna.Study", number: int) -> "optuna.trial.Trial":
    """The trial with a number, to report to and to ask for the rest of its parameters."""
    from optuna.trial import Trial

    (found,) = [trial for trial in study.get_trials(deepcopy=False) if trial.number == number]
    return Trial(study, found._trial_id)
