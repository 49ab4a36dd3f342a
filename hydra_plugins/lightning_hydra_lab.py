"""Expose the plugins of `src/sweeps` to Hydra, which finds only classes that are defined in this package.

Hydra imports every module of this folder at the start of each program, so they import little.
"""

from src.sweeps import grid, launcher, optuna_sweeper


class GridSweeper(grid.GridSweeper):
    """See `src.sweeps.grid`."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See `src.sweeps.optuna_sweeper`."""


class LocalLauncher(launcher.LocalLauncher):
    """See `src.sweeps.launcher`."""
