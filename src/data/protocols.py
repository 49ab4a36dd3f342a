"""What a run asks of data that may know of it: DataModules and loaders have these methods, or go without."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ComputesChecksums(Protocol):
    """A DataModule whose data is put on record."""

    def checksums(self) -> dict[str, str]:
        """Return a checksum of each split."""


@runtime_checkable
class SeedsBatches(Protocol):
    """A loader that draws a seed for every batch."""

    def batch_seeds(self) -> list[int]:
        """Return the seeds of the epoch's batches."""


@runtime_checkable
class KeepsPosition(Protocol):
    """A loader that can be continued amid an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position within the epoch."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a position at the next iteration."""
