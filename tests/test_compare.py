"""`src/compare.py`: the table, the file, and the page in a real browser."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.compare import compare
from src.train import train
from src.utils.cli import ROOT
from tests.conftest import TINY_RUN

HOSTILE = "</title></script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "no-first-run",
)


def job(folder: Path, status: str, *overrides: str, **facts: Any) -> None:
    """Write what a job leaves that has not finished."""
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"overrides": list(overrides)}))
    (folder / "status.json").write_text(json.dumps({"status": status, **facts}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nets with two seeds each, really trained; and jobs that failed, were pruned and were interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    import hydra

    from src.utils.cli import CONFIGS

    for model in ("mnist_sdn_8k", "simple_mlp"):
        for seed in (1, 2):
            with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
                said = [f"model={model}", f"seed={seed}", "data=synthetic", "data.channels=1", "data.image_size=28"]
                cfg = hydra.compose("train", [f"paths.output_dir={folder}/{model}_{seed}", *said, *TINY_RUN])
            train(cfg)
            (folder / f"{model}_{seed}" / ".hydra").mkdir()
            (folder / f"{model}_{seed}" / ".hydra" / "overrides.yaml").write_text(json.dumps(said))
    job(folder / "7", "failed", "model=mnist_sdn_8k", f"model.net.x={HOSTILE}", error=HOSTILE)
    job(folder / "8", "pruned", "model=mnist_sdn_8k", "model.optimizer.lr=0.1", epoch=1)
    job(folder / "9", "interrupted", "model=simple_mlp", "model.optimizer.lr=0.2")
    return folder


@pytest.fixture(scope="module")
def made(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the comparison of these runs makes."""
    import hydra

    from src.utils.cli import CONFIGS

    folder = tmp_path_factory.mktemp("comparison")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        options = [f"runs=[{runs}]", f"folder={folder}", f"paths.log_dir={folder}", f"paths.output_dir={folder}"]
        figures, objects = compare(hydra.compose("compare", options))
    return {"figures": figures, **objects}


def test_a_line_for_each_configuration_and_for_each_run(made: dict[str, Any]) -> None:
    configurations = made["configurations"]
    assert len(configurations) == 5
    trained = [one for one in configurations if one.mean("test/acc") is not None]
    assert trained == configurations[:2] and all(len(one.values("test/acc")) == 2 for one in trained)
    rows = list(csv.DictReader(made["csv"].read_text().splitlines()))
    assert len(rows) == 7 and [row["status"] for row in rows].count("finished") == 4
    lacking = [row for row in rows if row["status"] != "finished"]
    assert all(row["test/acc"] == "" for row in lacking)
    assert [row["error"] for row in rows if row["error"]] == [HOSTILE]
    assert all("model=" in row["overrides"] for row in rows)
    assert all("model=" in row["command"] and row["command"].startswith("python src/train.py") for row in rows)


def test_the_command_line(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "src" / "compare.py"), f"paths.log_dir={tmp_path}"]
    result = subprocess.run([*command, f"runs={runs}"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "±" in result.stdout and "1 pruned" in result.stdout and "–" in result.stdout
    for arguments, sentence in {
        ("runs=[nowhere]",): "runs: nowhere is not a folder",
        (f"runs=[{tmp_path / 'compare'}]",): "There is no run in",
        (f"runs=[{runs}]", "metric=test/f1"): "metric=test/f1 is not a figure of these runs; they are",
        (f"runs=[{runs}]", "mode=up"): "mode=up must be one of min, max, null",
    }.items():
        result = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert result.returncode == 1 and sentence in result.stderr and "Traceback" not in result.stderr


def test_the_page_holds_all_that_it_needs(made: dict[str, Any]) -> None:
    page = made["page"].read_text()
    assert len(page) < 1_000_000
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    for outside in ("http://", "https://", "<link", 'src="/', "@import", "url("):
        assert outside not in page, outside


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the page is opened by selenium, of the extra [dev]")
    from selenium.webdriver.chrome.service import Service

    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("there is no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture
def page(made: dict[str, Any], browser: Any) -> Any:
    """The page, opened at the width of a desk."""
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(made["page"].as_uri())
    return browser


def column(page: Any, number: int) -> list[str]:
    return page.execute_script(
        f"return [...document.querySelectorAll('.sortable tbody tr')].map(r => r.cells[{number}].innerText)"
    )


def test_every_section_is_there_and_nothing_is_fetched(page: Any) -> None:
    titles = [title.text for title in page.find_elements("tag name", "h2")]
    assert titles == ["All configurations", "What it costs", "Curves", "Every run"]
    assert not page.get_log("browser")  # errors and warnings
    asked = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"}
    assert {url.partition(":")[0] for url in urls} <= {"file", "data"}
    assert len(page.find_elements("css selector", "details.run")) == 7
    assert page.execute_script("return document.querySelectorAll('.matrix tbody tr').length") == 4 * 10
    assert page.execute_script("return document.querySelectorAll('.mistakes img').length") > 4
    broken = "return [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"
    assert page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true); " + broken) == 0


def test_what_users_have_written_is_text(page: Any) -> None:
    assert page.title == "5 configurations by test/acc"
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert HOSTILE in page.find_element("css selector", ".error").text
    assert len(page.find_elements("css selector", "script")) == 1


def test_a_click_sorts_and_what_is_lacking_stays_last(page: Any) -> None:
    button = page.find_elements("css selector", ".sortable thead button")[2]
    for direction in ("ascending", "descending"):
        button.click()
        values = column(page, 2)
        known = [float(value.split()[0]) for value in values if value != "–"]
        assert known == sorted(known, reverse=direction == "descending") and len(known) == 2
        assert values[2:] == ["–"] * 3
        assert page.execute_script("return arguments[0].parentElement.ariaSort", button) == direction


def test_a_click_hides_curves(page: Any) -> None:
    button = page.find_element("css selector", ".legend button")
    visible = "return [...document.querySelectorAll('.series')].filter(s => s.getClientRects().length).length"
    before = page.execute_script(visible)
    button.click()
    assert page.execute_script(visible) == before - 3  # charts
    button.click()
    assert page.execute_script(visible) == before


@pytest.mark.parametrize(("width", "height"), [(375, 812), (320, 568), (1280, 900)])
def test_nothing_is_wider_than_the_screen(width: int, height: int, page: Any) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    wide = page.execute_script(
        "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
        "e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert not wide
