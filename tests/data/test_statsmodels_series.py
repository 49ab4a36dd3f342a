"""The two series shipped with statsmodels: read completely, without importing the package, averaged by month."""

import sys
from typing import Any

import numpy as np
import pytest

from src.data import statsmodels_series
from src.data.series import SeriesDataModule
from src.data.statsmodels_series import CO2DataModule, SunspotsDataModule, file_of

SIZES: dict[str, Any] = {"features": 1, "window": 24, "horizon": 6, "val_size": 50, "test_size": 50, "batch_size": 8}


@pytest.mark.parametrize(("module", "name"), [(SunspotsDataModule, "sunspots"), (CO2DataModule, "co2")])
def test_a_missing_package_is_named_with_its_extra(
    module: type[SeriesDataModule], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statsmodels_series, "find_spec", lambda package: None)
    with pytest.raises(ModuleNotFoundError, match=rf"data={name} needs .* pip install -e '\.\[series\]'"):
        module(season=12, **SIZES).setup()


@pytest.fixture
def shipped() -> None:
    pytest.importorskip("statsmodels", reason="real series come with the extra [series]: pip install -e '.[series]'")


@pytest.mark.usefixtures("shipped")
def test_sunspots_are_those_of_309_years() -> None:
    series, names = SunspotsDataModule(season=11, **SIZES).load()
    assert series.shape == (309, 1) and names == ["SUNACTIVITY"]
    assert series[[0, 1, -1], 0].tolist() == [5.0, 11.0, 2.9]


@pytest.mark.usefixtures("shipped")
def test_co2_is_averaged_by_month_and_interpolated_where_a_month_has_no_value() -> None:
    series, names = CO2DataModule(season=12, **SIZES).load()
    assert series.shape == (526, 1) and names == ["co2"]  # March 1958 to December 2001
    values = series[:, 0].numpy()
    assert values[0] == pytest.approx(316.1) and values[1] == pytest.approx(np.mean([317.3, 317.6, 317.5, 316.4]))
    from statsmodels.datasets import co2  # as statsmodels' own examples do it

    expected = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()
    np.testing.assert_allclose(values, expected.to_numpy())


@pytest.mark.usefixtures("shipped")
def test_the_package_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "statsmodels", raising=False)  # of another test
    assert file_of("co2").is_file() and file_of("sunspots").is_file()
    assert "statsmodels" not in sys.modules
