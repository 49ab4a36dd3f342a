"""Fetch a published data set through torchvision: whole or not at all."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from src.system.signals import listener


def download(
    dataset_name: str, data_dir: Path, folder: Path, names: Sequence[str], missing: str, allowed: bool = True
) -> None:
    """Let torchvision download and verify a data set, and move its files in place when all are there.

    Args:
        dataset_name: torchvision's name of the class.
        data_dir: the data folder.
        folder: where the files belong, below the data folder; torchvision puts them in the same place.
        names: of the files.
        missing: the file that made the download necessary, for the message.
        allowed: whether to download it; otherwise a missing file is an error.

    Raises:
        FileNotFoundError: the download failed, and nothing is left of it; or it is not allowed.
    """
    if not allowed:
        raise FileNotFoundError(
            f"{dataset_name} is not in {data_dir}: {missing} is missing. Say data.data_dir=<folder>, or "
            "data.download=true to download it there."
        )
    from torchvision import datasets  # costs 1 s, and only a first run needs it

    data_dir.mkdir(parents=True, exist_ok=True)
    with listener.tidying(), tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as temporary:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for every mirror
                getattr(datasets, dataset_name)(temporary, download=True)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise FileNotFoundError(
                f"{dataset_name} is not here: {missing} is missing. Put its files in {data_dir / folder}; "
                f"`data=mnist_5k` works offline. The download failed: {reason}"
            ) from error
        (data_dir / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Path(temporary, folder, name).replace(data_dir / folder / name)
