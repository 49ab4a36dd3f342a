"""`src/compare.py`: the table, the file, and the page in a real browser."""

import csv
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.compare import compare
from src.config.paths import ROOT
from src.report.comparisons import compare_by_data
from src.report.page import write_page
from src.report.runs import find_runs
from src.train import train
from tests.conftest import TINY_RUN
from tests.programs import run

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
    """Write the files of an unfinished job."""
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"overrides": list(overrides)}))
    (folder / "status.json").write_text(json.dumps({"status": status, **facts}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nets with two seeds each, really trained; and jobs that failed, were pruned and were interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    import hydra

    from src.config.paths import CONFIGS

    for model in ("mnist_sdn_8k", "simple_mlp"):
        for seed in (1, 2):
            with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
                said = [f"model={model}", f"seed={seed}", "data=synthetic", "data.channels=1", "data.image_size=28"]
                cfg = hydra.compose("train", [f"paths.output_dir={folder}/{model}_{seed}", *said, *TINY_RUN])
            train(cfg)
            (folder / f"{model}_{seed}" / ".hydra").mkdir(exist_ok=True)
            (folder / f"{model}_{seed}" / ".hydra" / "overrides.yaml").write_text(json.dumps(said))
    job(folder / "7", "failed", "model=mnist_sdn_8k", f"model.net.x={HOSTILE}", error=HOSTILE)
    job(folder / "8", "pruned", "model=mnist_sdn_8k", "model.optimizer.lr=0.1", epoch=1)
    job(folder / "9", "interrupted", "model=simple_mlp", "model.optimizer.lr=0.2")
    return folder


@pytest.fixture(scope="module")
def made(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of comparing these runs."""
    import hydra

    from src.config.paths import CONFIGS

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
        (f"runs=[{runs}]", "metric=test/f1"): "metric=test/f1 is not a metric of these runs; they have",
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
    """A headless browser."""
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
    """The page, opened at desktop width."""
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


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 60 configurations on one data, one of them with two seeds, and 2 on another."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(63):
        data, rate = ("mnist", number) if number < 60 else ("cifar10", number) if number < 62 else ("mnist", 0)
        run = folder / str(number)
        job(run, "finished", f"data={data}", f"model.optimizer.lr={rate}")
        (run / "run.json").write_text(json.dumps({"seed": number, "choices": {"model": "simple_mlp", "data": data}}))
        figures = {"test/acc": 0.9 - number / 1000, "params": 1000 + number, "train_seconds": 60.0}
        (run / "metrics.json").write_text(json.dumps(figures))
        (run / "csv").mkdir()
        (run / "csv" / "metrics.csv").write_text(f"epoch,val/acc\n0,{number / 100}\n1,{number / 100}\n")
    runs, damaged = find_runs([str(folder)])
    write_page(folder / "compare.html", compare_by_data(runs), [], damaged)
    return folder / "compare.html"


@pytest.fixture
def opened(long_page: Path, browser: Any) -> Any:
    """The long page, on a touch screen."""
    metrics = {"width": 375, "height": 812, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    browser.get(long_page.as_uri())
    yield browser
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def shown(page: Any, selector: str) -> list[str]:
    """The visible texts of the first comparison."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].filter(e => e.checkVisibility()).map(e => e.innerText)"
    )
    return page.execute_script(script, f"#data-1 {selector}")


def tap(page: Any, selector: str, right: float = 0) -> None:
    """Touch the middle of an element, or a point some pixels to its right."""
    script = """const e = document.querySelector(arguments[0]); e.scrollIntoView({block: "center"});
    const b = e.getBoundingClientRect(); return [(b.left + b.right) / 2, (b.top + b.bottom) / 2]"""
    x, y = page.execute_script(script, selector)
    point = {"x": x + right, "y": y}
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_search_filters_table_and_runs(opened: Any) -> None:
    field = opened.find_element("css selector", "#data-1 .search input")
    field.send_keys("LR=5")
    rates = {"5", *map(str, range(50, 60))}
    assert {text.split("lr=")[1] for text in shown(opened, "tbody th")} == rates  # of folded ones, too
    assert len(shown(opened, ".group")) == len(rates) == 11
    assert shown(opened, ".search output") == ["11 of 60"]
    field.send_keys("9 finished")
    assert shown(opened, "tbody th") == ["lr=59"]
    field.clear()
    field.send_keys("x")
    assert shown(opened, "tbody th") == [] and shown(opened, ".search output") == ["0 of 60"]
    field.send_keys("\b")
    assert len(shown(opened, "tbody th")) == 50 and shown(opened, ".search output") == [""]


def test_a_long_table_is_folded_until_all_is_asked_for(opened: Any) -> None:
    assert len(shown(opened, "tbody th")) == 50 == len(shown(opened, ".group"))
    assert len(opened.find_elements("css selector", "#data-2 tbody tr")) == 2
    opened.execute_script("document.querySelector('#data-1 .all').click()")
    assert len(shown(opened, "tbody th")) == 60 == len(shown(opened, ".group")) and shown(opened, ".all") == []


def test_the_runs_of_a_configuration_are_folded(opened: Any) -> None:
    several = opened.find_element("css selector", "#data-1 details.group:not(.run)")
    inner = several.find_elements("css selector", "details.run")
    assert len(inner) == 2 and not inner[0].is_displayed()
    several.find_element("tag name", "summary").click()
    assert all(run.is_displayed() for run in inner)


def test_a_tap_tells_of_the_nearest_point_or_line(opened: Any) -> None:
    tip = opened.find_element("css selector", ".tip")
    assert not tip.is_displayed()
    tap(opened, "#data-1 .point.c0.p0", right=-12)
    assert tip.is_displayed() and tip.text.startswith("lr=1: ")
    tap(opened, "#data-1 .series[data-series='3']")
    assert tip.is_displayed() and tip.text == "lr=4"
    tap(opened, "#data-1 .series[data-series='23']", right=80)
    assert tip.is_displayed() and tip.text == "lr=24"
    right = opened.execute_script("return document.querySelector('.tip').getBoundingClientRect().right")
    assert right <= 375
    tap(opened, "#data-1 h2")
    assert not tip.is_displayed()


def test_the_first_24_are_told_apart_and_no_line_is_grey(opened: Any) -> None:
    script = """return [...document.querySelectorAll("#data-1 .curves figure:last-child .series")].map(e => {
    const line = getComputedStyle(e.querySelector(".mean"));
    return getComputedStyle(e).color + line.strokeDasharray})"""
    looks = opened.execute_script(script)
    assert len(looks) == len(set(looks)) == 24


def test_reconstructions_are_shown_as_panels(browser: Any, compose: Callable[..., Any], tmp_path: Path) -> None:
    said = ["model=mnist_autoencoder_5k", "data=synthetic", "data.channels=1", "data.image_size=28"]
    train(compose(*said, *TINY_RUN))
    (comparison,) = compare_by_data(find_runs([str(tmp_path)]).runs)
    assert (comparison.metric, comparison.minimised) == ("test/mse", True)
    write_page(tmp_path / "compare.html", [comparison], [])
    metrics = {"width": 375, "height": 812, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((tmp_path / "compare.html").as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    shapes = browser.execute_script(
        "return [...document.querySelectorAll('.mistakes img')].map(i => [i.naturalWidth / i.naturalHeight, "
        "i.getBoundingClientRect().width / i.getBoundingClientRect().height])"
    )
    assert len(shapes) > 4 and all(ratio == pytest.approx(3, abs=0.05) for shape in shapes for ratio in shape)
    text = browser.find_element("css selector", "details.run").text
    assert "Each picture: input | output | difference." in text and "mse 0." in text and "Confusions" not in text
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_full_disk_spares_the_former_page(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    page.write_text("the page of before")
    command = [sys.executable, str(ROOT / "src" / "compare.py"), f"runs=[{runs}]", f"folder={tmp_path}"]
    result = subprocess.run(
        [*command, f"hydra.run.dir={tmp_path}/run"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),  # no file may be larger
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert page.read_text() == "the page of before"


def test_the_page_is_named_as_it_is(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "[old]" / "x"
    result = run("compare", f"runs=[{runs}]", f"folder={folder}", f"hydra.run.dir={tmp_path}/log")
    assert f"page and table: {folder}/compare.html, {folder}/compare.csv" in result.stdout
