"""Open an Optuna study safely, whatever its storage holds."""

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from src.run.status import is_number
from src.system.locks import acquire
from src.system.safe_files import in_a_line
from src.system.wording import first_line

if TYPE_CHECKING:
    import optuna

SQLITE = "sqlite:///"
MAX_STEPS = 50_000_000  # steps of SQLite's virtual machine; a study of 10,000 trials of 100 epochs takes a third
STEPS = 10_000  # between two checks of the limit
LOCK_TIMEOUT = 60  # seconds to wait for another process to write to a journal, which takes milliseconds
EXTRA = "hydra/sweeper=optuna needs a package that is not installed: pip install -e '.[sweep]'"


def open_study(
    storage: str,
    name: str,
    directions: Sequence[Any] | None = None,
    pruner: Mapping[str, Any] | None = None,
    bounded: bool = False,
) -> "optuna.Study":
    """Load a study, or create it if its directions are given.

    Args:
        storage: the path of a journal file, or the URL of a database, such as `sqlite:///logs/studies.db`.
        name: name of the study within its storage, which may keep several.
        directions: `maximize` or `minimize` for each objective.
        pruner: configuration of the pruner; None: no pruning.
        bounded: treat a SQLite file as untrusted: accept only plain tables, and limit the work of reading them.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: the storage is locked, damaged, or of another version; or the study has other directions.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(EXTRA) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our own tables show the progress
    options: dict[str, Any] = {
        "study_name": name,
        "sampler": optuna.samplers.RandomSampler(),  # replaced before trials are drawn
        "pruner": hydra.utils.instantiate(pruner) if pruner else optuna.pruners.NopPruner(),
    }
    try:
        if "://" in storage:
            engine_options = {"creator": bounded_database(storage.removeprefix(SQLITE))} if bounded else None
            backend: Any = RDBStorage(storage, engine_kwargs=engine_options)
        else:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            backend = JournalStorage(JournalFileBackend(storage, lock_obj=lock_of(storage)))
        if directions is None:
            return optuna.load_study(storage=backend, **options)
        study = optuna.create_study(storage=backend, directions=[*directions], load_if_exists=True, **options)
    except Exception as error:  # the storage may raise anything
        raise ValueError(f"The study {name} cannot be opened in {storage}: {reason(error)}") from error
    current = [direction.name.lower() for direction in study.directions]
    if current != list(directions):
        raise ValueError(
            f"hydra.sweeper.direction={', '.join(directions)}: the study {name} in {storage} has "
            f"{', '.join(current)}; choose another hydra.sweeper.study_name, or use "
            f"hydra.sweeper.direction=[{','.join(current)}] to continue it."
        )
    return study


class JournalLock:
    """A kernel lock on the journal file, released when the process that holds it ends.

    Optuna's own locks are files and links that remain when a process is killed.

    Args:
        path: path of the journal.
        timeout: seconds to wait for another process.
    """

    def __init__(self, path: str, timeout: float = LOCK_TIMEOUT) -> None:
        self.path, self.timeout = path, timeout
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Lock the journal.

        Raises:
            TimeoutError: another program has locked it.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            acquire(descriptor, self.timeout)
        except BlockingIOError as error:
            os.close(descriptor)
            raise TimeoutError(f"{self.path} is locked by another program.") from error
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock."""
        assert self._descriptor is not None
        os.close(self._descriptor)
        self._descriptor = None


def lock_of(journal: str) -> Any:
    """Return the lock for writing to a journal."""
    if os.name == "posix":
        return JournalLock(journal)
    from optuna.storages.journal import JournalFileOpenLock

    return JournalFileOpenLock(journal)


def bounded_database(path: str) -> Callable[[], sqlite3.Connection]:
    """Return a function that connects to an untrusted SQLite database, with a limit on the total work.

    Raises:
        DatabaseError: it holds more than tables and indices; a view or trigger could run forever.
    """
    remaining = [MAX_STEPS]

    def is_exhausted() -> bool:
        remaining[0] -= STEPS
        return remaining[0] < 0

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.set_progress_handler(is_exhausted, STEPS)  # which also lets signals be handled
        return connection

    connection = connect()
    try:
        rows = connection.execute("SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index')")
        if (other := rows.fetchone()) is not None:
            raise sqlite3.DatabaseError(f"it holds a {other[0]}, which no study has.")
    finally:
        connection.close()
    return connect


def reason(error: BaseException) -> str:
    """Return why a storage cannot be used."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = first_line(error)
    if "locked" in text:
        return "another program has locked it; try again when that has ended."
    if "runtime optuna version" in text or isinstance(error, AssertionError):  # a database; a journal
        return "another version of Optuna made it; choose another hydra.sweeper.storage, or install that version."
    if isinstance(error, ValueError | KeyError | TypeError):  # raised for files that are not Optuna's
        return "it is not the storage of a study, or it is damaged."
    if text == "interrupted":  # by the step limit
        return "it takes too long to read, and is damaged."
    return text


def attribute(trial: "optuna.trial.FrozenTrial", name: str, expected_type: type) -> Any:
    """Return an attribute of a trial; None if it is missing or of another type."""
    value = trial.user_attrs.get(name)
    return value if type(value) is expected_type else None


def check_values(study: "optuna.Study") -> None:
    """Check that the values of completed trials are numbers, which Optuna does not check.

    Raises:
        ValueError: a trial has other values.
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
    """Return the trial with a number, to report values and draw further parameters."""
    from optuna.trial import Trial

    (frozen,) = [trial for trial in study.get_trials(deepcopy=False) if trial.number == number]
    return Trial(study, frozen._trial_id)
