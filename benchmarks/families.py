"""Select the families of a benchmark on its command line."""

import sys
from collections.abc import Sequence


def chosen(families: Sequence[str]) -> Sequence[str]:
    """Return the families that the command line names, or all; exit if it names another."""
    if unknown := [family for family in sys.argv[1:] if family not in families]:
        sys.exit(f"{unknown[0]} is not a family: choose from {', '.join(families)}.")
    return sys.argv[1:] or families
