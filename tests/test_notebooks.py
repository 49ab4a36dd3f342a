"""The notebooks run, are kept without outputs, and their rendered pages are theirs."""

import ast
import re
from pathlib import Path

import pytest

from src.config.paths import ROOT

nbformat = pytest.importorskip("nbformat", reason="notebooks need the extra [notebook]")
pytest.importorskip("nbclient", reason="notebooks need the extra [notebook]")

from notebooks.render import PAGES, code_of, execute, notebooks, write_page

NOTEBOOKS = notebooks()
QUICK = "1_first_steps"  # the others are run by `make test-slow`
MAX_CELLS, MAX_BYTES = 40, 250_000  # of a notebook; of a figure


def test_there_are_notebooks_and_the_page_lists_them() -> None:
    listed = re.findall(
        r"^\| `(\S+)\.ipynb` \| \[.*\]\(notebooks/(\S+)\.md\) \|$", (ROOT / "docs/python.md").read_text(), re.M
    )
    assert [name for name, _ in listed] == [page for _, page in listed] == [path.stem for path in NOTEBOOKS]
    assert len(NOTEBOOKS) >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_kept_without_outputs_and_holds_no_logic(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) < MAX_CELLS and notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and not any(
        cell.metadata for cell in notebook.cells
    )
    parsed = [ast.parse(cell.source) for cell in code]
    definitions = (ast.FunctionDef, ast.ClassDef)
    assert not [node for tree in parsed for node in ast.walk(tree) if isinstance(node, definitions)]
    imports = [node for tree in parsed for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports if str(node.module).startswith("src")} == {"src.api"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rendered_page_is_that_of_the_notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    page = (PAGES / f"{path.stem}.md").read_text()
    advice = f"{path.name} has changed since: make notebooks ARGS={path.stem}"
    assert code_of(page) == [cell.source for cell in notebook.cells if cell.cell_type == "code"], advice
    assert all(cell.source in page for cell in notebook.cells if cell.cell_type == "markdown"), advice
    figures = re.findall(r"!\[.*?\]\((\S+)\)", page)
    assert sorted(figures) == sorted(file.name for file in PAGES.glob(f"{path.stem}_*.png")) and figures
    assert all((PAGES / name).stat().st_size <= MAX_BYTES for name in figures)
    assert "Traceback" not in page and str(Path.home()) not in page


@pytest.mark.parametrize(
    "path",
    [pytest.param(one, id=one.stem, marks=() if one.stem == QUICK else pytest.mark.slow) for one in NOTEBOOKS],
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem.startswith("3_"):
        pytest.importorskip("nncf", reason="int8 models need the extra [deploy]")
    (tmp_path / "checkout").mkdir()
    notebook = execute(path, tmp_path / "checkout")
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert not errors
    assert list((tmp_path / "checkout" / "logs" / "train" / "runs").glob("*/metrics.json"))
    monkeypatch.setattr("notebooks.render.PAGES", tmp_path)
    write_page(notebook, path, tmp_path / "checkout")
    page = (tmp_path / f"{path.stem}.md").read_text()
    assert code_of(page) == code_of((PAGES / f"{path.stem}.md").read_text())
    assert page.count("![figure") == len(list(tmp_path.glob("*.png"))) > 1  # the curves of training are among them
    assert "epoch " in page and str(tmp_path) not in page
