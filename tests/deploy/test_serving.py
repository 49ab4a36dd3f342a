"""A trained run as a predictor."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn

from src.deploy import serving
from src.run import checkpoints
from src.run.checkpoints import INPUT_KEY

CARD: dict[str, Any] = {"mode": "L", "resize": "pad_or_stretch", "image_size": 8, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"std": [0.0]}, r"std=\[0\.0\] must be a list of numbers above 0, one per channel\.$"),
        ({"image_size": "x"}, "image_size=x must be an integer"),
        ({"heads": {"class": []}}, "outputs=.* must be the kind of each output by its name, with the names of classes"),
        ({"heads": ["a"]}, "says"),
        ({"heads": {"class": ["a", "b"]}}, None),
    ],
)
def test_a_damaged_input_card_of_a_checkpoint_is_told(
    changes: dict[str, Any], sentence: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = {**CARD, "heads": {"class": ["a"]}, **changes}
    monkeypatch.setattr(serving, "build_trained_model", lambda cfg, path: SimpleNamespace(net=nn.Flatten()))
    monkeypatch.setattr(checkpoints, "read_checkpoint", lambda path: {INPUT_KEY: card})
    if sentence is None:
        predictor = serving.predictor_of_run(OmegaConf.create({"calibrated": False}), Path("last.ckpt"))
        assert predictor.card["outputs"]["class"]["names"] == ["a", "b"]
        return
    with pytest.raises(ValueError, match=rf"last\.ckpt is damaged: its input_card .*{sentence}"):
        serving.predictor_of_run(OmegaConf.create({"calibrated": False}), Path("last.ckpt"))
