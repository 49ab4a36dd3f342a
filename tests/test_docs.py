"""The site of `make docs`: it builds without a warning, leaves no page out, and fetches nothing from the network."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.config.paths import ROOT

PAGES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from the sources as they are."""
    pytest.importorskip("zensical", reason="the site needs the extra [docs]")
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "mkdocs.yml", folder)  # beside which the site is written, where a link leads
    (folder / "src").symlink_to(ROOT / "src")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / yaml.safe_load((ROOT / "mkdocs.yml").read_text())["site_dir"]


def test_every_page_is_built_and_can_be_found(site: Path) -> None:
    told = re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1].split("\nplugins:")[0])
    assert sorted(set(told) - {"docs/"}) == [str(page) for page in PAGES]
    assert all((site / page.with_suffix(".html")).is_file() for page in PAGES)


def test_the_pages_fetch_nothing_from_the_network(site: Path) -> None:
    fetching = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\s\">]*")
    assert not {found for path in site.rglob("*.html") for found in fetching.findall(path.read_text())}
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*", styles)


def test_docstrings_are_on_the_pages_of_python(site: Path) -> None:
    for page, words in {"loading": "load_model", "tasks": "sample_errors", "nets": "VisionTransformer"}.items():
        assert words in (site / "api" / f"{page}.html").read_text()


@pytest.mark.parametrize("page", [Path("../README.md"), *PAGES], ids=str)
def test_a_link_leads_to_a_file(page: Path) -> None:
    """The site's build knows links between pages; pictures, and links of the README, are checked here."""
    path = ROOT / "docs" / page
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target
