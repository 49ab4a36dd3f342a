"""The search space of a study: values and ranges of overrides, some of them conditional on others."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

from src.sweeps.jobs import key_of
from src.system.safe_files import in_a_line

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial


class SearchSpace:
    """The overrides of a study's trials.

    Args:
        overrides: overrides of every trial, by key: single values, which are fixed, and sweeps, which are searched.
        conditional: further overrides by key for each condition, such as `model=mnist_cnn_68k`; they are searched in
            trials in which the condition holds.
        parse: parses an override.

    Raises:
        ValueError: a range is empty, a condition can never hold, or a key is searched twice.
    """

    def __init__(
        self,
        overrides: Mapping[str, Override],
        conditional: Mapping[str, Mapping[str, Override]],
        parse: Callable[[str], Override],
    ) -> None:
        self.fixed = [one.input_line or "" for one in overrides.values() if not one.is_sweep_override()]
        self.searched = {key: distribution(one) for key, one in overrides.items() if one.is_sweep_override()}
        if not self.searched:
            raise ValueError(
                "There is nothing to search: give ranges, such as 'model.optimizer.lr=tag(log,interval(1e-4,1e-1))', "
                "or choose a search with hparams_search=…"
            )
        self.conditions: dict[str, set[frozenset[str]]] = {}
        self.conditional: dict[str, dict[str, BaseDistribution]] = {}
        possible = {key_of([word]) for row in self.rows() for word in row}
        for condition, parts in conditional.items():
            self.conditions[condition] = {key_of([word]) for word in values_of(parse(condition))}
            if not self.conditions[condition] & possible:
                raise ValueError(f"conditional_params: {condition} never holds in this search.")
            repeated = self.searched.keys() & parts.keys()
            if repeated:
                raise ValueError(
                    f"conditional_params: {', '.join(sorted(repeated))} is searched in every trial already."
                )
            self.conditional[condition] = {key: distribution(one) for key, one in parts.items()}

    def suggest(self, trial: "Trial") -> list[str]:
        """Return the overrides of a trial; values that it already has are kept."""
        words = [*self.fixed, *(override_text(key, draw(trial, key, one)) for key, one in self.searched.items())]
        for parts in self._active(words):
            words += [override_text(key, draw(trial, key, one)) for key, one in parts.items()]
        return words

    def rows(self) -> list[list[str]]:
        """Return overrides for enough jobs to cover every value and both ends of every range."""
        examples = {key: examples_of(one) for key, one in self.searched.items()}
        rows = []
        for number in range(max(map(len, examples.values()))):
            row = [*self.fixed, *(override_text(key, some[number % len(some)]) for key, some in examples.items())]
            for parts in self._active(row):
                row += [
                    override_text(key, examples_of(one)[number % len(examples_of(one))]) for key, one in parts.items()
                ]
            rows.append(row)
        return rows

    def grid(self) -> dict[str, list[Any]]:
        """Return all values of each key.

        Raises:
            ValueError: a key has a range without steps, or a condition.
        """
        if self.conditional:
            raise ValueError("hydra/sweeper/sampler=grid does not support conditional_params.")
        values = {key: grid_of(one) for key, one in self.searched.items()}
        continuous = [key for key, choices in values.items() if choices is None]
        if continuous:
            raise ValueError(
                f"hydra/sweeper/sampler=grid needs single values for {', '.join(continuous)}, or a range with steps."
            )
        return {key: choices for key, choices in values.items() if choices is not None}

    def _active(self, words: Sequence[str]) -> list[dict[str, "BaseDistribution"]]:
        present = {key_of([one]) for one in words}
        return [parts for condition, parts in self.conditional.items() if self.conditions[condition] & present]


def distribution(override: Override) -> "BaseDistribution":
    """Return Optuna's distribution for an override such as `lr=tag(log,interval(1e-4,1e-1))` or `batch_size=32,64`.

    Raises:
        ValueError: it is empty, or logarithmic and not positive.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    text, value = override.input_line, override.value()
    log = isinstance(value, IntervalSweep | RangeSweep) and "log" in value.tags
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        if value.start >= value.end:
            raise ValueError(f"{text} is an empty range: {value.start} is not below {value.end}.")
        if log and value.start <= 0:
            raise ValueError(f"{text}: a logarithmic range must be above 0.")
        if isinstance(value.start, int) and isinstance(value.end, int):
            return IntDistribution(value.start, value.end, log=log)
        return FloatDistribution(value.start, value.end, log=log)
    if isinstance(value, RangeSweep):
        assert value.start is not None and value.stop is not None
        steps = math.ceil((value.stop - value.start) / value.step) - 1  # the end is left out, as in Hydra's grids
        if steps < 0 or value.step <= 0:
            raise ValueError(f"{text} is an empty range.")
        if log:
            raise ValueError(f"{text}: a logarithmic range has no steps: tag(log,int(interval(1,64))).")
        last = value.start + steps * value.step
        kind: Any = IntDistribution if isinstance(value.start, int) and isinstance(last, int) else FloatDistribution
        return kind(value.start, last, step=value.step)
    choices = list(override.sweep_iterator(transformer=Transformer.encode))
    if not choices:
        raise ValueError(f"{text} is empty: it lists no value.")
    return CategoricalDistribution(choices)  # type: ignore[arg-type]  # encoded: plain values and strings


def draw(trial: "Trial", key: str, one: "BaseDistribution") -> Any:
    """Draw a value for a trial, or return the one it already has.

    Optuna returns stored and enqueued values unchecked, whatever the storage holds.

    Raises:
        ValueError: the stored value is not in this search space.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    try:
        if isinstance(one, CategoricalDistribution):
            value = trial.suggest_categorical(key, one.choices)
        elif isinstance(one, FloatDistribution):
            value = trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)
        else:
            assert isinstance(one, IntDistribution)
            value = trial.suggest_int(key, one.low, one.high, step=one.step, log=one.log)
        return checked(value, one)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(
            f"{key} of trial {trial.number} is not in this search space, {in_a_line(error)}: search as before, or "
            "choose another hydra.sweeper.study_name."
        ) from error


def checked(value: Any, one: "BaseDistribution") -> bool | int | float | str | None:
    """Return one of the choices, or a plain number within the range; never an object or text from the storage.

    Raises:
        ValueError: it is neither.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(one, CategoricalDistribution):
        for choice in one.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise ValueError(f"{value!r} is not one of {', '.join(map(str, one.choices))}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    low, high = one.low, one.high  # type: ignore[attr-defined]
    rounding = 1e-9 * (high - low)
    if not low - rounding <= value <= high + rounding:
        raise ValueError(f"{value!r} is not between {low} and {high}")
    return int(value) if isinstance(one, IntDistribution) else float(value)


def examples_of(one: "BaseDistribution") -> list[Any]:
    """Return all choices, or both ends of a range."""
    from optuna.distributions import CategoricalDistribution

    if isinstance(one, CategoricalDistribution):
        return list(one.choices)
    return [one.low, one.high]  # type: ignore[attr-defined]


def grid_of(one: "BaseDistribution") -> list[Any] | None:
    """Return all values of a distribution; None if it is continuous."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(one, CategoricalDistribution):
        return list(one.choices)
    step = one.step or (1 if isinstance(one, IntDistribution) else None)  # type: ignore[attr-defined]
    if step is None or one.log:  # type: ignore[attr-defined]
        return None
    return [one.low + number * step for number in range(round((one.high - one.low) / step) + 1)]  # type: ignore[attr-defined]


def override_text(key: str, value: Any) -> str:
    """Return an override that sets a key to a value."""
    return f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


def values_of(override: Override) -> list[str]:
    """Return one override for each value of a sweep.

    Raises:
        ValueError: it has no values.
    """
    if not override.is_sweep_override():
        return [override.input_line or ""]
    overrides = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not overrides:
        raise ValueError(f"{override.input_line} is empty: it lists no value.")
    return overrides
