"""CMA-ES whose state is read from a study without running code from it."""

import io
import pickle
from typing import TYPE_CHECKING, Any

from optuna.samplers import CmaEsSampler

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# all classes in a pickled optimizer of `cmaes`; numpy 1 has no `_core`
OPTIMIZERS = {("cmaes._cma", "CMA"), ("cmaes._sepcma", "SepCMA"), ("cmaes._cmawm", "CMAwM")}
ARRAYS = {("numpy", "ndarray"), ("numpy", "dtype")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")
}


class SafeCmaEsSampler(CmaEsSampler):
    """Restrict what Optuna's sampler unpickles: it stores its optimizer as a pickle in the attributes of trials."""

    def _restore_optimizer(self, completed_trials: "list[FrozenTrial]") -> Any:
        for trial in reversed(completed_trials):
            attributes = {
                key: text for key, text in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)
            }
            if attributes:
                return load_optimizer(self._concat_optimizer_attrs(attributes), trial.number)
        return None


class Unpickler(pickle.Unpickler):
    """Load optimizers and arrays, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Import a class or function by name.

        Raises:
            UnpicklingError: an optimizer has no such part.
        """
        if (module, name) not in OPTIMIZERS | ARRAYS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def load_optimizer(text: str, number: int) -> Any:
    """Load the optimizer that a trial stores as hexadecimal digits.

    Raises:
        ValueError: it is damaged, or not an optimizer.
    """
    try:
        optimizer = Unpickler(io.BytesIO(bytes.fromhex(text))).load()
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(f"The state of CMA-ES in trial {number} is damaged: {error}.") from error
    if (type(optimizer).__module__, type(optimizer).__name__) not in OPTIMIZERS:
        raise ValueError(f"The state of CMA-ES in trial {number} is damaged: it is {type(optimizer).__name__}.")
    return optimizer
