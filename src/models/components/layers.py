"""What several nets share."""

from collections.abc import Sequence


def check_positive(**sizes: int | Sequence[int]) -> None:
    """Check that every size, or every member of a list of sizes, is at least 1.

    Raises:
        ValueError: names the first argument that holds a smaller one.
    """
    for name, value in sizes.items():
        if min([value] if isinstance(value, int) else [*value, 1]) < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
