"""The tasks for which advice is given. Nothing in this package imports torch, so that advice is quick."""

from collections.abc import Mapping
from dataclasses import dataclass

IMAGES, SERIES, TOKENS = 3, 2, 1  # dimensions of a net's input: (channels, height, width), (steps, features), (steps,)


@dataclass(frozen=True)
class Kind:
    """A task: its nets, their score, and how to train them on a user's own data."""

    task: str  # class of the task
    score: str  # test metric
    minimised: bool
    words: Mapping[int, str]  # arguments of the command, by the number of dimensions of the net's input
    page: str  # further reading
    note: str = ""  # what the user has to add to the command

    @property
    def of_images(self) -> bool:
        """Whether its nets take images, which have a size and channels."""
        return IMAGES in self.words


SHAPE = "data.image_size={size} data.channels={channels} data.batch_size={batch_size}"
OWN_IMAGES = f"model={{model}} data=image_folder data.folder=<folder> {SHAPE}"
OWN_MASKS = f"model={{model}} data=mask_folder data.folder=<folder> data.classes=[background,object] {SHAPE}"
KINDS = {
    "classification": Kind("Classifier", "acc", False, {IMAGES: OWN_IMAGES}, "docs/recipes.md"),
    "segmentation": Kind(
        "Segmentation",
        "miou",
        False,
        {IMAGES: OWN_MASKS},
        "docs/segmentation.md",
        "data.classes and data.values define what the colours of masks mean.",
    ),
    "reconstruction": Kind("Reconstruction", "mse", True, {IMAGES: OWN_IMAGES}, "docs/reconstruction.md"),
    "anomaly": Kind(
        "Reconstruction",
        "auroc",
        False,
        {IMAGES: "experiment=mnist_anomaly model={model} data=mnist_5k"},
        "docs/reconstruction.md",
        "The commands hold out a digit; your own data need an in-memory DataModule, see docs/extend.md.",
    ),
    "forecast": Kind(
        "Forecast", "mase", True, {SERIES: "model={model} data=csv_series data.file=<file>"}, "docs/sequences.md"
    ),
    "sequences": Kind(
        "Classifier",
        "acc",
        False,
        {TOKENS: "model={model} data=text_folder data.path=<folder>", SERIES: "model={model} data=mnist_5k_rows"},
        "docs/sequences.md",
        "Nets with an input of (steps) take texts; those with (steps, features) take series, which need a DataModule.",
    ),
}
