"""The IDX reader returns what was written, and names damaged files."""

import gzip
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.data.idx import read_idx

VECTOR = bytes([0, 0, 8, 1])  # magic number of bytes in one dimension
NOISE = np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8).tobytes()  # does not compress


def size(number: int) -> bytes:
    return number.to_bytes(4, "big")


@pytest.mark.parametrize("name", ["digits-ubyte", "digits-ubyte.gz"])
@pytest.mark.parametrize("shape", [(7,), (5, 4, 3)], ids=str)
def test_a_file_reads_back_as_it_was_written(
    name: str, shape: tuple[int, ...], tmp_path: Path, write_idx: Callable[[Path, np.ndarray], Path]
) -> None:
    written = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    read = read_idx(write_idx(tmp_path / name, written), num_dims=len(shape))
    assert read.dtype == np.uint8
    assert np.array_equal(read, written)
    read[0] = 1  # torch.from_numpy warns of arrays that cannot be written to


DAMAGED = {
    "empty": b"",
    "another kind of file": b"\x89PNG\r\n\x1a\n" + NOISE,
    "signed bytes": bytes([0, 0, 9, 1]) + size(5) + bytes(5),
    "text of the right length": b"text" + size(5) + b"abcde",
    "three dimensions": bytes([0, 0, 8, 3]) + size(8) + size(0) + size(0),  # as one dimension it would fit
    "ends after the magic number": VECTOR,
    "a byte short": VECTOR + size(100) + bytes(99),
    "a byte long": VECTOR + size(100) + bytes(101),
}
COMPRESSED = gzip.compress(VECTOR + size(len(NOISE)) + NOISE)
DAMAGED_GZIP = {
    "not compressed": VECTOR + size(100) + bytes(100),
    "a web page": b"<html>404</html>",
    "compressed, half of it": COMPRESSED[: len(COMPRESSED) // 2],
    "compressed, nothing but the header": COMPRESSED[:10],
    "compressed, checksum wrong": COMPRESSED[:-8] + bytes(4) + COMPRESSED[-4:],
    "compressed, a bit flipped": COMPRESSED[:2500] + bytes([COMPRESSED[2500] ^ 0x10]) + COMPRESSED[2501:],
    "compressed, code invalid": COMPRESSED[:10] + b"\xff" * 100,
    "compressed, a byte short": gzip.compress(DAMAGED["a byte short"]),
    "compressed, a byte long": gzip.compress(DAMAGED["a byte long"]),
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[pytest.param("plain", content, id=reason) for reason, content in DAMAGED.items()],
        *[pytest.param("packed.gz", content, id=reason) for reason, content in DAMAGED_GZIP.items()],
        pytest.param(
            "plain",
            VECTOR + size(100)[:2],
            id="ends within the header",
        ),
    ],
)
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_idx(path, num_dims=1)


def test_a_header_without_all_its_sizes_is_no_empty_array(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(bytes([0, 0, 8, 3]) + size(0))
    with pytest.raises(ValueError, match=str(path)):
        read_idx(path, num_dims=3)


@pytest.mark.parametrize("name", ["huge", "huge.gz"])
def test_a_header_that_claims_a_terabyte_is_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    content = bytes([0, 0, 8, 3]) + size(10_000) * 3 + bytes(1000)
    path.write_bytes(gzip.compress(content) if path.suffix else content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{name} .*10000 x 10000 x 10000"):
            read_idx(path, num_dims=3)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
