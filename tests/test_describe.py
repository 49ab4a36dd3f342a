"""`src/describe.py` writes the card of a net, of a run's net, or of several nets."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from src.cards.text import folded, layer_table, print_card
from src.describe import check_arguments, describe
from tests.conftest import TINY_RUN
from tests.programs import run

QUICK = ("seconds=0.01", "threads=1")


def test_a_card_has_totals_that_are_the_sums_of_its_layers_and_is_written(
    compose: Callable[..., DictConfig],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = compose("model=scenes_unet_64k", "batch_size=4", *QUICK, config_name="describe")
    card, _ = describe(cfg, tmp_path)
    layers, totals = card["layers"], card["totals"]
    for key in ("params", "macs"):
        assert sum(one[key] for one in layers) == totals[key]
        assert sum(one[key] * one["repeats"] for one in card["stages"]) == totals[key]
    assert sum(one["kept"] for one in layers) == totals["training_bytes"]
    assert totals["params"] == 62_555 and totals["weights_bytes"] > 4 * 62_555
    assert totals["checkpoint_bytes"] > totals["weights_bytes"] + 2 * 4 * 62_555  # two moments of AdamW
    assert totals["weights_bytes"] / 4 < totals["int8_bytes"] < totals["weights_bytes"] / 3
    assert (
        totals["latency_ms"]["fp32"] > 0 and totals["latency_ms"]["bf16"] > 0 and totals["latency_ms"]["int8"] is None
    )
    assert 0 < sum(one["share"] or 0 for one in layers) <= 1
    assert json.loads((tmp_path / "card.json").read_text())["layers"] == layers
    pages = {name: (tmp_path / name).read_text() for name in ("card.md", "card.html", "diagram.svg")}
    for one in layers:
        assert all(f"{one['name'] or '(net)'}" in page for page in (pages["card.md"], pages["card.html"]))
    for page in (pages["card.html"], pages["diagram.svg"]):
        assert page.count('class="flow skip"') == 3  # from each level of the encoder to the decoder
        assert not re.findall(r"(?:src|href)=|url\(|<script", page)
    assert "62,555" in pages["card.md"] and "an estimate" in pages["card.md"]
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        print_card(card, Path("logs/describe"))
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= width and "ConvTranspose2d 2×2 /2" in printed
        assert "62,555" in printed and ("keeps " in printed.splitlines()[3]) == (width == 120)


def test_equal_blocks_are_folded_and_nothing_is_lost(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    card, _ = describe(compose("model=cifar10_vit_210k", "timing=false", config_name="describe"), tmp_path)
    assert [one["repeats"] for one in card["stages"]].count(6) == 1
    rows = list(folded(card["layers"]))
    assert len(rows) < len(card["layers"]) / 3 and [one["name"] for one in rows].count("× 5 more") == 1
    assert sum(one["params"] for one in rows) == card["totals"]["params"] == 208_842
    assert sum(one["macs"] for one in rows) == card["totals"]["macs"]
    assert layer_table(card, 80).row_count == len(rows)
    assert (
        not card["timed"]
        and card["layers"][0]["share"] is None
        and "not measured" in (tmp_path / "card.md").read_text()
    )


def test_a_runs_net_is_described_with_the_sizes_of_its_checkpoints(tmp_path: Path) -> None:
    options = (
        "model=mnist_autoencoder_5k",
        "data=synthetic",
        "data.channels=1",
        "data.image_size=28",
        "logger=none",
        "callbacks.image_report=null",
    )
    trained = run("train", *options, *TINY_RUN, "test=false", f"hydra.run.dir={tmp_path}/trained")
    assert trained.returncode == 0, trained.stderr
    result = run(
        "describe", f"run_dir={tmp_path}/trained", "timing=false", "format=json", f"hydra.run.dir={tmp_path}/card"
    )
    assert result.returncode == 0, result.stderr
    card = json.loads(result.stdout)
    assert (card["name"], card["data"], card["totals"]["params"]) == ("mnist_autoencoder_5k", "synthetic", 5_097)
    assert card["batch_size"] == 16 and any(note.startswith("checkpoints/last.ckpt: 0.") for note in card["notes"])


def test_a_sweep_gives_one_table_even_if_a_job_fails(tmp_path: Path) -> None:
    options = ("timing=false", f"hydra.sweep.dir={tmp_path}")
    result = run("describe", "-m", "model=glob(mnist_sdn_*,exclude=mnist_sdn_210k)", "batch_size=1,0", *options)
    assert result.returncode == 1 and "batch_size=0 must be a number of inputs" in result.stderr
    cards = json.loads((tmp_path / "cards.json").read_text())["cards"]
    assert [one["name"] for one in cards] == ["mnist_sdn_68k", "mnist_sdn_8k"]
    for text in (result.stdout, *((tmp_path / name).read_text() for name in ("cards.md", "cards.html"))):
        assert all(one in text for one in ("mnist_sdn_68k", "67,978", "7,973"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("batch_size=0", "batch_size=0 must be a number of inputs"),
        ("seconds=0", "seconds=0 must be more than 0"),
        ("run_dir=nowhere", "run_dir=nowhere is not a folder"),
    ],
    ids=["batch", "seconds", "run"],
)
def test_a_wrong_setting_is_answered_with_a_sentence(
    setting: str, sentence: str, compose: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(ValueError if "run" not in setting else FileNotFoundError, match=sentence):
        describe(compose(setting, config_name="describe"), tmp_path)


def test_a_net_and_a_run_are_refused_together() -> None:
    with pytest.raises(ValueError, match="model= and run_dir= are given, but the net comes from the run"):
        check_arguments(["run_dir=a", "model=mnist_sdn_8k"])
    with pytest.raises(ValueError, match=r"data.image_size= and run_dir= are given"):
        check_arguments(["run_dir=a", "data.image_size=8"])
    check_arguments(["run_dir=a", "batch_size=8"])
