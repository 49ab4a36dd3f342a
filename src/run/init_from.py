"""Start training from the weights of another run: `init_from=<run or checkpoint>`."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

from src.run.checkpoint_tensors import dtype_kind
from src.run.checkpoints import read_checkpoint
from src.run.journal import journal
from src.system.ranks import is_rank_zero
from src.system.safe_files import printable

MAX_NAMED_TENSORS = 6  # named in the table; a head has two


def load_matching_weights(model: nn.Module, ckpt_path: Path) -> None:
    """Load the weights that match a model by name and shape, and print which are loaded, new and unused.

    Raises:
        ValueError: no weight matches, or the file cannot be read.
    """
    theirs: dict[str, Tensor] = read_checkpoint(ckpt_path)["state_dict"]
    ours = model.state_dict()

    def fits(their: Tensor, our: Tensor) -> bool:
        return their.shape == our.shape and dtype_kind(their.dtype) == dtype_kind(our.dtype)

    fitting = {name: value for name, value in theirs.items() if name in ours and fits(value, ours[name])}
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim >= 2}
    if not fitting.keys() & matrices:  # a head's bias that happens to match is of no use by itself
        raise ValueError(f"init_from={ckpt_path}: none of its weights matches a name and shape of the model.")
    model.load_state_dict(fitting, strict=False)
    groups = {
        "loaded": fitting,
        "new": {name: value for name, value in ours.items() if name not in fitting},
        "unused": {name: value for name, value in theirs.items() if name not in fitting},
    }
    if is_rank_zero():
        print_load_summary(ckpt_path, groups)


def print_load_summary(ckpt_path: Path, groups: dict[str, dict[str, Tensor]]) -> None:
    """Print and log the number of tensors and values of each group, and the names of the first ones."""
    table = Table(
        "", "tensors", "values", "which", title=escape(printable(f"init_from={ckpt_path}")), title_justify="left"
    )
    for group, tensors in groups.items():
        names = ", ".join(
            f"{printable(name)} {tuple(value.shape)}" for name, value in list(tensors.items())[:MAX_NAMED_TENSORS]
        )
        examples = "" if group == "loaded" else names
        if examples and len(tensors) > MAX_NAMED_TENSORS:
            examples += ", …"
        values = sum(value.numel() for value in tensors.values())
        table.add_row(group, str(len(tensors)), f"{values:,}", escape(examples))
        journal.info(
            "init_from=%s: %s %d tensors, %s values  %s", ckpt_path, group, len(tensors), f"{values:,}", examples
        )
    Console().print(table)
