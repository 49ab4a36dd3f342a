"""Two real series shipped with the package statsmodels, without a download."""

from collections import defaultdict
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.data.csv_series import is_number, read_series, read_table
from src.data.series import SeriesDataModule


class SunspotsDataModule(SeriesDataModule):
    """The mean number of sunspots in each year from 1700 to 2008; cycles take about 11 years.

    Raises:
        ModuleNotFoundError: statsmodels is not installed.
    """

    def load(self) -> tuple[Tensor, list[str]]:
        """Read the package's table."""
        return read_series(file_of("sunspots"), ["SUNACTIVITY"], time="YEAR")  # (309, 1)


class CO2DataModule(SeriesDataModule):
    """Carbon dioxide in the air at Mauna Loa, in parts per million, from March 1958 to December 2001.

    The package's table is weekly with gaps. This series has monthly means; months without data are interpolated
    linearly.

    Raises:
        ModuleNotFoundError: statsmodels is not installed.
    """

    def load(self) -> tuple[Tensor, list[str]]:
        """Read the package's table and average months."""
        _, rows = read_table(file_of("co2"))  # dates such as 19580329, and parts per million
        weeks = defaultdict(list)
        for date, value in (row.cells for row in rows):
            if is_number(value):
                weeks[date[:6]].append(float(value))
        (first, *_), (*_, last) = sorted(weeks), sorted(weeks)
        every = [f"{year}{month:02}" for year, month in product(range(int(first[:4]), int(last[:4]) + 1), range(1, 13))]
        months = [month for month in every if first <= month <= last]
        known = [index for index, month in enumerate(months) if month in weeks]
        means = [np.mean(weeks[months[index]]) for index in known]
        return torch.from_numpy(np.interp(range(len(months)), known, means)).unsqueeze(1), ["co2"]


def file_of(name: str) -> Path:
    """Return the CSV file of one of statsmodels' data sets; importing the package would take a second.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    package = find_spec("statsmodels")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"data={name} needs the package statsmodels: pip install -e '.[series]'")
    return Path(package.origin).parent / "datasets" / name / f"{name}.csv"
