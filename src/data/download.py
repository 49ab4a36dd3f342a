"""Download a data set through torchvision, completely or not at all."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from src.system.signals import listener


def download(
    dataset_name: str,
    data_dir: Path,
    folder: Path,
    names: Sequence[str],
    missing: str,
    allowed: bool = True,
    offline: str = "mnist_5k",
) -> None:
    """Download and verify a data set to a temporary folder, then move its files into place.

    Args:
        dataset_name: name of torchvision's class.
        data_dir: the data folder.
        folder: folder of the files, below the data folder, as in torchvision.
        names: names of the files or folders.
        missing: the first missing file, for the message.
        allowed: whether to download; if false, a missing file is an error.
        offline: data for the same task that need no download, for the message.

    Raises:
        FileNotFoundError: the download failed or is not allowed.
    """
    if not allowed:
        raise FileNotFoundError(
            f"{dataset_name} is not in {data_dir}: {missing} is missing. Set data.data_dir=<folder>, or "
            "data.download=true to download it there."
        )
    from torchvision import datasets  # takes 1 s to import, and only the first run needs it

    data_dir.mkdir(parents=True, exist_ok=True)
    with listener.cleanup(), tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as temporary:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for every mirror
                getattr(datasets, dataset_name)(temporary, download=True)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise FileNotFoundError(
                f"{dataset_name} is not available: {missing} is missing. Put its files in {data_dir / folder}; "
                f"`data={offline}` works offline. The download failed: {reason}"
            ) from error
        (data_dir / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            Path(temporary, folder, name).replace(data_dir / folder / name)
