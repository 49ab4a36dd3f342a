"""Optional methods of DataModules and loaders that a run uses."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ComputesChecksums(Protocol):
    """A DataModule whose checksums are recorded."""

    def checksums(self) -> dict[str, str]:
        """Return a checksum of each split."""


@runtime_checkable
class SeedsBatches(Protocol):
    """A loader with a seed for every batch."""

    def batch_seeds(self) -> list[int]:
        """Return the seeds of the epoch's batches."""


@runtime_checkable
class KeepsPosition(Protocol):
    """A loader that can resume within an epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position within the epoch."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a position at the next iteration."""
