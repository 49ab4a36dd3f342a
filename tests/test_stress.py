"""Stress: kills, collisions, damaged files, mutated inputs; prints what was tried.

`make test` runs the short form; `make test-slow ARGS=tests/test_stress.py` the long one: 10 kills of each of three nets
and more than 10,000 mutated inputs.
"""

import gzip
import hashlib
import io
import json
import multiprocessing
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from src.config.paths import ROOT
from src.data.cifar import CIFAR10DataModule
from src.data.idx import read_idx
from src.predictor import read_image
from src.run.checkpoints import read_checkpoint
from src.run.directory import create_folder
from src.run.recorded_overrides import replayable_overrides
from src.run.run import Run
from src.speed.measure import peak_memory
from tests.programs import Program

TRAIN = [sys.executable, str(ROOT / "src" / "train.py")]
SMALL = [
    "data=synthetic",
    "data.channels=1",
    "data.image_size=28",
    "data.train_size=1600",
    "data.val_size=160",
    "data.test_size=160",
    "data.batch_size=16",
    "trainer=cpu",
    "callbacks.last_checkpoint.every_n_train_steps=7",
]
NETS = {
    "MLP, short": ["model=simple_mlp", "trainer.max_epochs=6"],
    "MLP": ["model=simple_mlp", "trainer.max_epochs=30"],
    "CNN": ["model=mnist_cnn_8k", "data/augmentation=digits", "trainer.max_epochs=30"],
    "ViT": ["model=mnist_vit_38k", "+model.net.dropout=0.1", "trainer.max_epochs=6"],
}


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line past pytest's capture."""

    def tell_(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {line}")

    return tell_


def start(*arguments: str) -> Program:
    return Program("train", *arguments)


def outcome(folder: Path) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    metrics = json.loads((folder / "metrics.json").read_text())
    plain = {name: value for name, value in metrics.items() if "second" not in name}
    return plain, read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def kill_and_resume(net: list[str], kills: int, folder: Path, generator: random.Random) -> int:
    """Train once without interruption, then again, killed at random moments and resumed; compare; return the kills."""
    whole, parts = folder / "whole", folder / "parts"
    process = start(*SMALL, *net, f"hydra.run.dir={whole}")
    assert process.wait(timeout=600) == 0, process.errors()
    process = start(*SMALL, *net, f"hydra.run.dir={parts}")
    last, killed = parts / "checkpoints" / "last.ckpt", 0
    for _ in range(kills):
        before = last.stat().st_mtime_ns if last.is_file() else 0
        while process.poll() is None and not (last.is_file() and last.stat().st_mtime_ns > before):
            time.sleep(0.01)  # until it trains
        time.sleep(generator.uniform(0, 0.4))
        if process.poll() is not None:  # on a fast machine it may end before: fewer kills, but still a run to compare
            break
        killed += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(f"resume={parts}")
    assert process.wait(timeout=600) == 0, process.errors()
    (metrics, weights), (metrics_whole, weights_whole) = outcome(parts), outcome(whole)
    assert metrics == metrics_whole
    assert all(torch.equal(value, weights_whole[name]) for name, value in weights.items())
    assert weights.keys() == weights_whole.keys()
    return killed


LONG = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "kills"),
    [("MLP, short", 2), *(pytest.param(name, 10, marks=LONG) for name in NETS if "short" not in name)],
    ids=str,
)
def test_kill_9_at_random_moments_costs_nothing(
    name: str, kills: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    killed = kill_and_resume(NETS[name], kills, tmp_path, random.Random(seed))
    assert killed
    tell(f"{name}: kills survived: {killed} of {killed}; weights and metrics.json equal (seed of the moments {seed})")


@LONG
def test_two_processes_are_stopped_and_resumed_exactly(tmp_path: Path) -> None:
    options = [*SMALL, *NETS["MLP"], "trainer=ddp_sim"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    process = start(*options, f"hydra.run.dir={whole}")
    assert process.wait(timeout=600) == 0, process.errors()
    process = start(*options, f"hydra.run.dir={parts}")
    while process.poll() is None and not (parts / "checkpoints" / "last.ckpt").is_file():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and f"resume={parts}" in errors
    process = start(f"resume={parts}")
    assert process.wait(timeout=600) == 0, process.errors()
    (metrics, weights), (metrics_whole, weights_whole) = outcome(parts), outcome(whole)
    assert metrics == metrics_whole
    assert all(torch.equal(value, weights_whole[name]) for name, value in weights.items())


def create(folder: Path, barrier: Any, queue: Any) -> None:
    barrier.wait()
    queue.put(str(create_folder(folder)))


def test_runs_started_at_once_never_share_a_folder(tmp_path: Path, tell: Callable[[str], None]) -> None:
    context = multiprocessing.get_context("fork")
    count = 50
    barrier, queue = context.Barrier(count), context.Queue()
    processes = [context.Process(target=create, args=(tmp_path / "runs" / "now", barrier, queue)) for _ in range(count)]
    for process in processes:
        process.start()
    folders = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    tell(f"runs collided: {count - len(folders)} of {count}")
    assert len(folders) == count == len(list((tmp_path / "runs").iterdir()))


def test_programs_started_at_once_never_share_a_folder(tmp_path: Path) -> None:
    options = ["trainer.max_epochs=0", "train=false", "test=false", "data=synthetic", "logger=none"]
    processes = [start(*options, f"paths.log_dir={tmp_path}", "task_name=same") for _ in range(4)]
    for process in processes:
        assert process.wait(timeout=300) == 0, process.errors()
    assert len(list((tmp_path / "same" / "runs").iterdir())) == 4


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=LONG)])
def test_a_damaged_checkpoint_is_never_taken_for_a_good_one(
    count: int, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    last, previous = folder / "last.ckpt", folder / "previous.ckpt"
    content = {"state_dict": {"weight": torch.arange(300.0)}, "epoch": 7}
    torch.save(content, last)
    shutil.copy(last, previous)
    good, generator, refused = last.read_bytes(), random.Random(0), 0
    for _ in range(count):
        damaged = bytearray(good)
        if generator.random() < 0.3:
            del damaged[generator.randrange(len(damaged)) :]
        else:
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        last.write_bytes(damaged)
        chosen = Run(tmp_path).resumable_checkpoint()
        refused += chosen == previous
        if chosen == last:  # an unused bit, such as padding: the contents must be unchanged
            read = read_checkpoint(last)
            assert torch.equal(read["state_dict"]["weight"], content["state_dict"]["weight"]) and read["epoch"] == 7
    tell(f"corrupted checkpoints tried: {count}; refused: {refused}; the others read as they had been written")
    assert refused > count / 2


def seeds_of_inputs(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], Any], str]]:
    """A good file of each kind, its reader, and its name."""
    array = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28)
    idx = bytes([0, 0, 8, 3]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()
    images = {}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(array[0]).convert("RGB").save(buffer, kind)
        images[f"image.{kind.lower()}"] = buffer.getvalue()
    batch = pickle.dumps({"data": np.zeros((4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 3]}, protocol=2)
    name, _ = CIFAR10DataModule.files[0]
    (folder / CIFAR10DataModule.folder).mkdir(parents=True)
    checksum = hashlib.md5(batch).hexdigest()
    cifar = CIFAR10DataModule(str(folder), num_classes=10, channels=3, image_size=32, batch_size=4)
    checkpoint = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, checkpoint)
    overrides = yaml.safe_dump(["model=mnist_cnn_8k", "trainer.max_epochs=3", "+model.net.x=[1,{c: d}]"]).encode()
    (folder / ".hydra").mkdir()
    return {
        "IDX": (idx, lambda path: read_idx(path, 3), "a-ubyte"),
        "IDX, gzip": (gzip.compress(idx), lambda path: read_idx(path, 3), "a-ubyte.gz"),
        "CIFAR": (batch, lambda path: cifar._read(name, checksum), f"{CIFAR10DataModule.folder}/{name}"),
        **{kind: (content, lambda path: read_image(path, "RGB"), kind) for kind, content in images.items()},
        "checkpoint": (checkpoint.getvalue(), read_checkpoint, "a.ckpt"),
        "YAML": (overrides, lambda path: replayable_overrides(folder), ".hydra/overrides.yaml"),
    }


MUTATION = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "insert", "swap", "huge"]), st.integers(0, 2**20), st.binary(max_size=8)
    ),
    min_size=1,
    max_size=4,
)


def mutate(content: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(content)
    for kind, position, extra in mutations:
        if not data:
            break
        at = position % len(data)
        if kind == "flip":
            data[at] ^= 1 << position % 8
        elif kind == "set":
            data[at : at + len(extra)] = extra
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = extra
        elif kind == "swap":
            data[at:], data[:at] = data[:at], data[at:]
        else:  # a size larger than the file
            data[at % 32 : at % 32 + 4] = b"\xff\xff\xff\xff"
    return bytes(data)


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=LONG)])
def test_mutated_inputs_are_read_or_refused(count: int, tmp_path: Path, tell: Callable[[str], None]) -> None:
    tried = refused = 0

    def attempt(content: bytes, read: Callable[[Path], Any], path: Path) -> Callable[[Any], None]:
        def attempt_(mutations: Any) -> None:
            nonlocal tried, refused
            path.write_bytes(mutate(content, mutations))
            tried += 1
            start = time.process_time()
            try:
                read(path)
            except (ValueError, pickle.UnpicklingError):
                refused += 1
            assert time.process_time() - start < 20, f"{path} kept its reader busy"

        return attempt_

    with peak_memory() as before:
        pass
    with peak_memory() as peak:
        for kind, (content, read, name) in seeds_of_inputs(tmp_path).items():
            path = tmp_path / name
            path.write_bytes(content)
            read(path)  # unmodified, it can be read

            checks = list(HealthCheck)
            plain = settings(max_examples=count, deadline=None, suppress_health_check=checks, database=None)
            try:
                plain(given(MUTATION)(attempt(content, read, path)))()
            except Exception as error:
                raise AssertionError(f"{kind}: {type(error).__name__} is no sentence for a user") from error
    tell(f"mutated inputs tried: {tried:,}; refused: {refused:,}; peak memory + {(peak[0] - before[0]) / 1e6:.0f} MB")
    assert tried >= count * 11 * 0.9 and peak[0] - before[0] < 1e9


def test_a_disk_that_is_full_stops_the_run_and_spares_the_checkpoint(tmp_path: Path) -> None:
    options = [*SMALL, "model=simple_mlp", "trainer.max_epochs=1", "logger=none"]
    process = start(*options, f"hydra.run.dir={tmp_path}")
    assert process.wait(timeout=300) == 0, process.errors()
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    result = subprocess.run(
        [*TRAIN, f"resume={tmp_path}", "trainer.max_epochs=3"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2,) * 2),  # no file may be larger
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "cannot be written" in result.stderr and "File too large" in result.stderr
    assert last.read_bytes() == before and zipfile.is_zipfile(last)
    assert not list(last.parent.glob(".*.tmp"))
