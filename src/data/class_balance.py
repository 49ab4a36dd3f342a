"""Warn about missing and unbalanced classes."""

import logging
from collections.abc import Mapping, Sequence

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

log = logging.getLogger(__name__)

UNBALANCED = 10  # ratio of the largest class to the smallest from which to warn
LISTED = 5  # classes named in a line


@rank_zero_only
def warn_of_imbalance(
    counts: Mapping[str, Tensor], names: Sequence[str], noun: str = "image", limit: float = UNBALANCED
) -> None:
    """Warn about classes without samples in a split, and about unbalanced training samples.

    Args:
        counts: number of samples of each class (num_classes,), by split.
        names: names of the classes.
        noun: the word for a sample.
        limit: ratio of the largest class to the smallest from which to warn.
    """
    splits = [split for split, samples in counts.items() if samples.sum()]  # one may be empty on purpose
    missing = [tuple(split for split in splits if not counts[split][label]) for label in range(len(counts["train"]))]
    for absent in sorted(set(missing) - {()}):
        classes = [name for name, splits in zip(names, missing, strict=False) if splits == absent]
        consequence = "cannot be learnt" if "train" in absent else "are not evaluated there"
        where = " and ".join([", ".join(absent[:-1]), absent[-1]] if len(absent) > 1 else absent)
        log.warning("No %ss of %s in %s: they %s.", noun, listed(classes), where, consequence)
    training = sorted(zip(counts["train"].tolist(), names, strict=False))
    present = [(count, name) for count, name in training if count]
    if present and present[-1][0] >= limit * present[0][0]:
        log.warning(
            "The training %ss are unbalanced, from %d of %s to %d of %s: model.criterion.weight=balanced gives every "
            "class the same weight in the loss, as val/balanced_acc does.",
            noun,
            *present[0],
            *present[-1],
        )


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
