"""Start a training from the weights of another: `init_from=<run or checkpoint>`."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from src.run.checkpoint_tensors import numbers
from src.run.checkpoints import read_checkpoint
from src.run.journal import journal
from src.system.ranks import is_rank_zero
from src.system.safe_files import printable

NAMED = 6  # tensors that the table names; a head is two


def load_fitting(model: nn.Module, ckpt_path: Path) -> None:
    """Load what fits a model by name and shape, and print what was loaded, what stays new, and what was of no use.

    Raises:
        ValueError: no weight fits, or the file cannot be read.
    """
    theirs: dict[str, Tensor] = read_checkpoint(ckpt_path)["state_dict"]
    ours = model.state_dict()

    def fits(their: Tensor, our: Tensor) -> bool:
        return their.shape == our.shape and numbers(their.dtype) == numbers(our.dtype)

    fitting = {name: value for name, value in theirs.items() if name in ours and fits(value, ours[name])}
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    if not fitting.keys() & matrices:  # a bias of a head that happens to fit is of no use by itself
        raise ValueError(f"init_from={ckpt_path}: no weight of it fits the model: they need the same names and shapes.")
    model.load_state_dict(fitting, strict=False)
    groups = {
        "loaded": fitting,
        "new": {name: value for name, value in ours.items() if name not in fitting},
        "unused": {name: value for name, value in theirs.items() if name not in fitting},
    }
    if is_rank_zero():
        print_groups(ckpt_path, groups)


def print_groups(ckpt_path: Path, groups: dict[str, dict[str, Tensor]]) -> None:
    """Print how many tensors and values each group has, and which where they are few; log the same."""
    table = Table(
        "", "tensors", "values", "which", title=escape(printable(f"init_from={ckpt_path}")), title_justify="left"
    )
    for group, tensors in groups.items():
        names = ", ".join(f"{printable(name)} {tuple(value.shape)}" for name, value in list(tensors.items())[:NAMED])
        which = "" if group == "loaded" else names
        if which and len(tensors) > NAMED:
            which += ", …"
        values = sum(value.numel() for value in tensors.values())
        table.add_row(group, str(len(tensors)), f"{values:,}", escape(which))
        journal.info("init_from=%s: %s %d tensors, %s values  %s", ckpt_path, group, len(tensors), f"{values:,}", which)
    Console().print(table)
