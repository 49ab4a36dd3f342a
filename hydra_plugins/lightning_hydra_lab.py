"""What Hydra finds of `src/sweeps`: it takes plugins from classes that are defined in this package, and no others.

Hydra imports every module of this folder at the start of each program, and so these import little.
"""

from src.sweeps import grid, launcher, optuna_sweeper


class GridSweeper(grid.GridSweeper):
    """See `src.sweeps.grid`."""


class OptunaSweeper(optuna_sweeper.OptunaSweeper):
    """See `src.sweeps.optuna_sweeper`."""


class LocalLauncher(launcher.LocalLauncher):
    """See `src.sweeps.launcher`."""
