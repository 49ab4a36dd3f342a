"""Run folders, configurations and checkpoints of an attacker: no code in them runs, and nothing is written elsewhere.

`make test` runs the short form; `make test-slow ARGS=tests/test_hostile.py` tries 20,000 mutated files.
"""

import copy
import os
import pickle
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate

from src.config.composing import compose as compose_choices
from src.config.targets import check_targets
from src.run import recorded_overrides
from src.run.checkpoints import CONFIG_KEY
from src.run.file_names import CONFIG, OVERRIDES
from src.run.recorded_overrides import replayable_overrides
from src.run.reuse import reusable
from src.run.run import Run
from tests.programs import run

SMALL = ["data=synthetic", "data.channels=1", "data.image_size=28", "data.train_size=200", "data.val_size=40"]
SMALL += ["data.test_size=40", "data.batch_size=20", "trainer=cpu", "trainer.max_epochs=1", "model=mnist_sdn_8k"]
TARGET = "{_target_: os.mkdir, path: MARKER}"  # Hydra itself would refuse os.system, but not this


class Payload:
    """The function that a hostile file would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an honest run."""
    folder = tmp_path_factory.mktemp("trained")
    result = run("train", *SMALL, f"hydra.run.dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder


def test_what_the_hostile_files_hold_is_not_harmless(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()
    instantiate(yaml.safe_load(TARGET.replace("MARKER", str(tmp_path / "target"))))
    assert (tmp_path / "target").exists()


@pytest.mark.parametrize("name", ["a payload", "a plain pickle"])
def test_a_pickle_is_not_loaded(name: str, trained: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "ran", tmp_path / "run"
    shutil.copytree(trained, folder)
    good = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    for path in (folder / "checkpoints").iterdir():
        if "plain" in name:
            path.write_bytes(pickle.dumps(Payload(marker)))
        else:
            torch.save({**good, "extra": Payload(marker)}, path)
    for program, argument in (("train", "resume"), ("eval", "run_dir")):
        result = run(program, f"{argument}={folder}")
        assert result.returncode == 1 and "damaged" in result.stderr and "Traceback" not in result.stderr
        assert not marker.exists()


# additions to the configuration of a run, and whether a program continues without them
CONFIGURATIONS = {
    "a callback": ("callbacks: {x: TARGET}", True),
    "a logger": ("logger: {x: TARGET}", True),
    "a callback for Hydra": ("hydra: {callbacks: {x: TARGET}}", True),
    "a defaults list": ("defaults: [{override hydra/launcher: TARGET}]", True),
    "permissions": ("allowed_targets: [os, src]\ncallbacks: {x: TARGET}", True),
    "places": ("paths: {output_dir: MARKER, log_dir: MARKER}\nlogger: {csv: {save_dir: MARKER}}", True),
    "a nested target": ("model: {net: {_target_: src.data.cifar.io.os.mkdir, path: MARKER}}", False),
    "permissions for a net": ("allowed_targets: [os]\nmodel: {net: TARGET}", False),
    "a method": ("model: {net: {_target_: lightning.pytorch.trainer.trainer.Trainer.fit, ckpt_path: MARKER}}", False),
    "a created node": ('model: {net: "${oc.create:TARGET}"}', False),
    "a decoded node": ("model: {net: \"${oc.decode:'TARGET'}\"}", False),
    "a resolver whose name is made up": ('model: {key: create, net: "${oc.${model.key}:TARGET}"}', False),
    "an interpolated key": ('model: {"${oc.create:TARGET}": 1}', False),
    "a tag": ("model: !!python/object/apply:os.mkdir [MARKER]", False),
    "an alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nmodel: *b", False),
    "another key of Hydra's": ("data: {_target_: src.data.synthetic.SyntheticDataModule, _args_: [TARGET]}", False),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("in_checkpoint", [False, True], ids=["in the folder", "in a checkpoint"])
def test_a_configuration_runs_nothing(name: str, in_checkpoint: bool, trained: Path, tmp_path: Path) -> None:
    text, goes_on = CONFIGURATIONS[name]
    marker, folder = tmp_path / "ran", tmp_path / "run"
    added = text.replace("TARGET", TARGET).replace("MARKER", str(marker))
    honest = yaml.safe_load((trained / CONFIG).read_text())
    if "!!" in text or "&" in text:
        if in_checkpoint:
            pytest.skip("of YAML alone")
        config: Any = yaml.safe_dump({key: value for key, value in honest.items() if key != "model"}) + added
    else:
        config = merged(honest, yaml.safe_load(added))
    shutil.copytree(trained, folder)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if in_checkpoint:
        good = torch.load(checkpoint, weights_only=True)
        checkpoint = tmp_path / "moved.ckpt"
        torch.save({**good, CONFIG_KEY: config}, checkpoint)
    else:
        (folder / CONFIG).write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    programs = (
        ["eval", "export", "predict"] if name in ("a callback", "a nested target", "a created node") else ["eval"]
    )
    for program in programs:
        (tmp_path / "photo.png").write_bytes(b"no picture")
        more = {"predict": [f"input={tmp_path}/photo.png"], "export": ["formats=[torch]", "precisions=[fp32]"]}
        result = run(program, f"ckpt_path={checkpoint}", *more.get(program, []), f"hydra.run.dir={tmp_path / program}")
        assert not marker.exists(), f"{name} ran"
        assert "Traceback" not in result.stderr, result.stderr
        if not goes_on:
            assert result.returncode == 1 and ("refused" in result.stderr or "damaged" in result.stderr), result.stderr
        elif program == "eval":
            assert result.returncode == 0, result.stderr


def merged(node: Any, added: Any) -> Any:
    """Merge nested dicts."""
    if isinstance(node, dict) and isinstance(added, dict) and "_target_" not in added:
        return {**node, **{key: merged(node.get(key), value) for key, value in added.items()}}
    return added


RECORDS = {
    "an override": "+callbacks.x=TARGET",
    "an override for Hydra": "+hydra={callbacks:{x:TARGET}}",
    "a configuration from elsewhere": "experiment=../..EVIL",
    "permissions": ["allowed_targets=[os]", "+callbacks.x=TARGET"],
    "a method": "+callbacks.x._target_=lightning.pytorch.trainer.trainer.Trainer.fit",
    "an interpolation": "model.optimizer.lr='${oc.create:TARGET}'",
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_runs_nothing(name: str, trained: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "ran", tmp_path / "run"
    shutil.copytree(trained, folder)
    evil = TARGET.replace("MARKER", str(marker))
    (tmp_path / "evil.yaml").write_text(f"# @package _global_\nhydra: {{callbacks: {{x: {evil}}}}}\n")
    texts = RECORDS[name] if isinstance(RECORDS[name], list) else [RECORDS[name]]
    added = [text.replace("TARGET", evil).replace("EVIL", f"{tmp_path}/evil") for text in texts]
    (folder / OVERRIDES).write_text(yaml.safe_dump([*SMALL, *added]))
    for kind in ("resume", "reproduce"):
        result = run("train", f"{kind}={folder}", f"paths.log_dir={tmp_path}/logs")
        assert not marker.exists(), f"{name} ran"
        assert "Traceback" not in result.stderr, result.stderr
        if name == "an interpolation":  # it is replaced by the value that the run stored
            assert result.returncode == 0, result.stderr
        else:
            assert result.returncode == 1 and "refused" in result.stderr, result.stderr


# ---- 20,000 mutated files

WATCHED = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.link",
)
WATCHED += ("os.symlink", "os.truncate", "os.chmod", "shutil.", "socket.", "pty.")
watch: dict[str, Any] = {"on": False, "seen": [], "folder": ""}


def note_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Record whatever runs, or changes something outside of the test's folder."""
    if not watch["on"]:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (flags or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes and not str(path).startswith(watch["folder"]):
            watch["seen"].append((event, path))
    elif event.startswith(WATCHED):
        watch["seen"].append((event, arguments))


sys.addaudithook(note_event)  # it cannot be removed, only switched off


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[list[Any]]:
    """The commands run and files written elsewhere during a test."""
    watch.update(on=False, seen=[], folder=str(tmp_path))
    yield watch["seen"]
    watch["on"] = False


def deep(levels: int) -> Any:
    node: Any = "x"
    for level in range(levels):
        node = [node] if level % 2 else {"a": node}
    return node


NASTY: list[Callable[[random.Random], Any]] = [
    lambda _: {"_target_": "os.mkdir", "path": "MARKER"},
    lambda _: {"_target_": "os.system", "command": "touch MARKER"},
    lambda g: {
        "_target_": g.choice(["builtins.eval", "subprocess.Popen", "src.run.record.git"]),
        "_args_": ["1"],
    },
    lambda g: {"_target_": "torch.load", "f": "MARKER", "_partial_": g.choice([True, "x", 3])},
    lambda g: g.choice(
        ["${oc.create:{_target_: os.mkdir, path: MARKER}}", "${oc.${key}:{a: 1}}", "${a", "$${a}", "\t"]
    ),
    lambda g: "${" * g.randrange(1, 60) + "model" + "}" * g.randrange(60),
    lambda g: (
        f"${{{g.choice(['model', 'data', 'model.net', 'seed', 'a.b', 'hydra:job.num', 'oc.env:HOME', 'now:%Y'])}}}"
    ),
    lambda g: g.choice([10**12, -1, 2**63, 10**40, 0, 1e308, float("nan"), float("inf")]),
    lambda g: deep(g.randrange(2, 150)),
    lambda g: "x" * g.choice([10, 100_000]),
    lambda g: g.choice(
        [None, True, [], {}, "", "???", "null", "../../x", "/etc/passwd", "~", "a\x00b", "ü日本", "\x1b[2J"]
    ),
    lambda g: [g.randrange(9)] * g.choice([3, 30_000]),
    lambda g: {g.choice(["_target_", "_args_", "_convert_", "_recursive_", "defaults", "${a}", "a.b"]): "os.system"},
]
TEXTS = [
    "!!python/object/apply:os.system ['touch MARKER']",
    "&a [*a, *a]",
    "*a",
    "<<: *x",
    "\t- x",
    "%TAG ! x",
    "--- |",
]
TEXTS += ["'", '"', "{", "[", "!!int x", "!!binary x", "? x", "\x00", "\ufeff", "- - - - -", "${oc.create:x}", "@", "`"]
TEXTS += ["[" * 5_000, "{a: " * 3_000]


def mutated(config: Any, generator: random.Random, marker: Path) -> Any:
    """A copy of plain values with some replaced by what an attacker would write there."""
    config = copy.deepcopy(config)
    for _ in range(generator.randrange(1, 4)):
        node = config
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = generator.choice(keys)
            if isinstance(node[key], dict | list) and generator.random() < 0.8:
                node = node[key]
                continue
            value = marked(generator.choice(NASTY)(generator), marker)
            if isinstance(node, dict) and generator.random() < 0.3:
                key = generator.choice(
                    ["_target_", "_partial_", "callbacks", "hydra", "x", "${x}", "a" * 500, "_args_"]
                )
            node[key] = value
            break
    return config


def marked(node: Any, marker: Path) -> Any:
    """The same with the path that shows whether it ran."""
    if isinstance(node, dict):
        return {key: marked(value, marker) for key, value in node.items()}
    return node.replace("MARKER", str(marker)) if isinstance(node, str) else node


def mutated_text(text: str, generator: random.Random, marker: Path) -> bytes:
    """A YAML file with something inserted, removed, or one bit changed."""
    for _ in range(generator.randrange(1, 4)):
        at = generator.randrange(len(text) + 1)
        text = (
            text[:at] + generator.choice(TEXTS).replace("MARKER", str(marker)) + text[at + generator.choice([0, 5]) :]
        )
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if generator.random() < 0.3:
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutated_configurations_and_checkpoints_run_nothing(
    count: int,
    trained: Path,
    tmp_path: Path,
    watched: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    composed = cache(
        lambda name, lines: compose_choices(
            name, recorded_overrides.OverridesParser.create().parse_overrides(list(lines))
        )
    )
    monkeypatch.setattr(
        recorded_overrides, "compose", lambda name, choices: composed(name, tuple(one.input_line for one in choices))
    )
    config = yaml.safe_load((trained / CONFIG).read_text())
    overrides = yaml.safe_load((trained / OVERRIDES).read_text())
    honest = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {"state_dict": honest["state_dict"]}
    folder, marker = tmp_path / "run", tmp_path / "ran"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    checkpoint, alone = folder / "checkpoints" / "last.ckpt", tmp_path / "alone.ckpt"
    torch.save(weights, checkpoint)
    check_targets(reusable(read_run_config_of(folder, yaml.safe_dump(config).encode())))
    generator, refused, slowest = random.Random(0), 0, 0.0
    for number in range(count):
        kind = number % 4
        if kind == 0:
            content = yaml.safe_dump(mutated(config, generator, marker), allow_unicode=True).encode("utf-8", "replace")
        elif kind == 1:
            content = mutated_text(yaml.safe_dump(config), generator, marker)
        elif kind == 2:
            torch.save({**weights, CONFIG_KEY: mutated(config, generator, marker)}, alone)
        else:
            pool = [
                *overrides,
                *(f"{key}={generator.choice(NASTY)(generator)}"[:5_000] for key in ("model", "+x", "seed")),
            ]
            lines = mutated(generator.sample(pool, 4), generator, marker)
            content = (
                mutated_text(yaml.safe_dump(lines), generator, marker)
                if number % 8 == 3
                else yaml.safe_dump(lines).encode()
            )
        start = time.process_time()
        watch["on"] = True
        try:
            if kind == 3:
                (folder / OVERRIDES).write_bytes(content)
                replayable_overrides(folder)
            else:
                found = Run.open(alone, "ckpt_path").config() if kind == 2 else read_run_config_of(folder, content)
                taken = reusable(found)
                check_targets(taken)
                with torch.device("meta"):  # no memory
                    instantiate(taken["model"], _convert_="all")
        except ValueError:
            refused += 1
        except Exception as error:  # from a net with impossible sizes: the user sees its message
            if is_reader(error):
                raise AssertionError(f"number {number}: {type(error).__name__}: {error}") from error
            refused += 1
        finally:
            watch["on"] = False
        slowest = max(slowest, time.process_time() - start)
        assert slowest < 10, f"number {number} kept its reader busy"
        assert not marker.exists() and not watched, f"number {number}: {watched}"
    with capsys.disabled():
        sys.stdout.write(f"\n  mutated: {count:,}; refused: {refused:,}; run or written elsewhere: {len(watched)}")
    assert refused > count / 2


def is_reader(error: Exception) -> bool:
    """Return whether an error comes from reading a file rather than from building its objects."""
    trace, names = error.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return "instantiate" not in names


def read_run_config_of(folder: Path, content: bytes) -> dict[str, Any]:
    """The configuration of a run, with such a file."""
    (folder / CONFIG).write_bytes(content)
    return Run.open(folder).config()
