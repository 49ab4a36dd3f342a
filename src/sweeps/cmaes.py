"""CMA-ES whose state is read from a study without running code of whoever wrote it."""

import io
import pickle
from typing import TYPE_CHECKING, Any

from optuna.samplers import CmaEsSampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# what a pickled optimizer of `cmaes` consists of, beside plain values; numpy 1 has no `_core`
OPTIMIZERS = {("cmaes._cma", "CMA"), ("cmaes._sepcma", "SepCMA"), ("cmaes._cmawm", "CMAwM")}
ARRAYS = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


class SafeCmaEsSampler(CmaEsSampler):
    """Optuna's sampler, which keeps its optimizer as a pickle among the attributes of trials."""

    def _restore_optimizer(self, completed_trials: "list[FrozenTrial]") -> Any:
        for trial in reversed(completed_trials):
            found = {key: text for key, text in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)}
            if found:
                return optimizer_of(self._concat_optimizer_attrs(found), trial.number)
        return None


class Unpickler(pickle.Unpickler):
    """Finds optimizers and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of a name.

        Raises:
            UnpicklingError: it has no part in an optimizer.
        """
        if (module, name) not in OPTIMIZERS | ARRAYS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def optimizer_of(text: str, number: int) -> Any:
    """The optimizer that a trial keeps, in hexadecimal digits.

    Raises:
        ValueError: it is damaged, or something else.
    """
    try:
        found = Unpickler(io.BytesIO(bytes.fromhex(text))).load()
    except Exception as error:  # of whatever kind a damaged pickle comes to
        raise ValueError(f"The state of CMA-ES in trial {number} is damaged: {error}.") from error
    if (type(found).__module__, type(found).__name__) not in OPTIMIZERS:
        raise ValueError(f"The state of CMA-ES in trial {number} is damaged: it is {type(found).__name__}.")
    return found
