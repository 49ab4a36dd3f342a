"""What is declared, locked and imported agrees; setting up for a run leaves out what only work on the code needs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements.lock import LEFT_OUT
from src.config.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # with mypy

SHARED = {"google": "protobuf"}  # a folder that several packages put modules into, and the one whose we import
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
BASE = [Requirement(line) for line in PROJECT["dependencies"]]
PIN = re.compile(r"^([\w.-]+)==(\S+?)(?: ; (.+?))? \\$((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?$)+)", re.MULTILINE)


def read(*names: str) -> dict[str, list[tuple[str, str | None]]]:
    """The releases of each package in lock files, with the markers of where they are meant."""
    found: dict[str, list[tuple[str, str | None]]] = {}
    for name in names:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        pins = PIN.findall(text)
        assert len(pins) == len(re.findall(r"^\w", text, re.MULTILINE)) > 70  # all of the file has been understood
        for package, release, marker, _ in pins:
            found.setdefault(canonicalize_name(package), []).append((release, marker or None))
    return found


def with_extras(extras: Iterable[str]) -> list[Requirement]:
    """The project's own requirements, with some extras and those that they name."""
    found = list(BASE)
    for extra in extras:
        for requirement in EXTRAS[extra]:
            found += with_extras(requirement.extras) if requirement.name == PROJECT["name"] else [requirement]
    return found


def closure(requirements: Iterable[Requirement]) -> Iterator[str]:
    """All packages that are needed here for some requirements, as far as they are installed."""
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            yield name
            if LEFT_OUT.fullmatch(name):
                continue
            try:
                needed = [Requirement(line) for line in distribution(name).requires or []]
            except PackageNotFoundError:
                continue
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]


def imported(*folders: str) -> set[str]:
    """The packages that the code in folders imports, at any depth, but for Python's own and the project's."""
    modules: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(str(node.module).partition(".")[0])
    own = {path.name for path in ROOT.iterdir() if path.is_dir()} | {"tomllib", "tomli", "hydra_plugins"}
    providers = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - own
    assert len(foreign) > 10
    found = {canonicalize_name(providers[module][0]) for module in foreign - {*SHARED} if module in providers}
    return found | {package for module, package in SHARED.items() if module in foreign}


@pytest.mark.parametrize(("extra", "files"), [("demo", ["run"]), ("dev", ["run", "dev"])])
def test_the_lock_is_within_the_ranges_and_complete(extra: str, files: list[str]) -> None:
    pins = read(*files)
    requirements = [one for one in with_extras([extra]) if not LEFT_OUT.fullmatch(one.name)]
    assert len(requirements) > 10
    for requirement in requirements:
        releases = pins[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(release) for release, _ in releases), requirement
    here = {name for name, found in pins.items() if any(m is None or Marker(m).evaluate() for _, m in found)}
    assert not {name for name in closure(requirements) if not LEFT_OUT.fullmatch(name)} - here
    assert not [name for name in pins if LEFT_OUT.fullmatch(name)]


def test_what_is_imported_is_declared_and_locked() -> None:
    declared = {canonicalize_name(one.name) for one in with_extras(EXTRAS)}
    assert not imported("src", "hydra_plugins") - declared
    assert not {name for name in imported("src", "tests", "benchmarks") if not LEFT_OUT.fullmatch(name)} - set(
        read("run", "dev")
    )


@pytest.mark.parametrize(
    ("target", "extras", "locked"),
    [
        ("quickstart", ["demo"], False),
        ("tb", ["demo"], False),
        ("test", ["demo", "dev"], False),
        ("setup", ["demo", "dev"], True),
    ],
)
def test_each_target_sets_up_what_it_needs_from_nothing(target: str, extras: list[str], locked: bool) -> None:
    command = ["make", "-n", target, "VENV=.none", *(["LOCKED=1"] if locked else [])]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"-e '\.\[(\w+)\]'", planned) == extras
    files = ["run", "dev"] if locked else []
    assert re.findall(r"--require-hashes -r requirements/(\w+)\.txt", planned) == files
    assert "--quiet" not in planned


def test_continuous_integration_runs_every_python_that_is_allowed() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in range(10, 15)]
    assert all(Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python) for python in pythons)
