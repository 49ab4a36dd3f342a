"""Read the IDX format of MNIST and similar data sets, plain or gzip."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

UINT8 = 0x08  # the format's code for unsigned bytes
MAX_BYTES = 2**31  # 40 times MNIST; a larger claim in a header is refused before memory is allocated


def read_idx(path: Path, num_dims: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes with `num_dims` dimensions.

    Raises:
        ValueError: the file is damaged or not such a file.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            header = file.read(4 + 4 * num_dims)
            expected = bytes([0, 0, UINT8, num_dims])
            if header[:4] != expected:
                raise ValueError(
                    f"{path} starts with {header[:4].hex()}, where IDX data of {num_dims} dimensions starts with "
                    f"{expected.hex()}: it is damaged or another file; delete it and download it again."
                )
            if len(header) < 4 + 4 * num_dims:
                raise EOFError("it ends within its header")
            shape = [int(size) for size in np.frombuffer(header[4:], dtype=">u4")]
            size = math.prod(shape)
            data = file.read(size + 1) if size <= MAX_BYTES else b""  # one more byte, to detect a file that is too long
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}): delete it and download it again.") from error
    if len(data) != size:
        raise ValueError(
            f"{path} does not hold the {' x '.join(map(str, shape))} bytes that its header claims: "
            "it is truncated or damaged; delete it and download it again."
        )
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)
