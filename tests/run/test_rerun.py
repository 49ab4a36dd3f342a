"""`resume=` and `reproduce=` find the recorded run, and replay only what is allowed."""

import json
import logging
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.run.checkpoints import read_checkpoint
from src.run.differences import log_differences
from src.run.file_names import OVERRIDES
from src.run.recorded_overrides import record_overrides
from src.run.rerun import check_recipe, expand, resume_job
from src.run.run import Run
from src.system.locks import FolderInUse, locked
from src.system.safe_files import read_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a run, with two checkpoints."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "checkpoints").mkdir()
    overrides = ["model=mnist_cnn_8k", "seed=null", "+trainer.benchmark=true", "ckpt_path=old.ckpt"]
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"model": {"lr": 1, "old": 2}, "seed": None}))
    (tmp_path / "run.json").write_text(json.dumps({"seed": 17, "cpus": 2, "packages": {"torch": "1"}}))
    for name in ("last", "previous"):
        torch.save({"state_dict": {"weight": torch.randn(100)}}, tmp_path / "checkpoints" / f"{name}.ckpt")
    return tmp_path


def test_resuming_is_the_recorded_command_in_the_same_folder(folder: Path) -> None:
    assert expand([f"resume={folder}", "trainer.max_epochs=9"]) == [
        "model=mnist_cnn_8k",
        "+trainer.benchmark=true",
        f"++resume='{folder}'",
        "seed=17",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
        f"ckpt_path='{folder}/checkpoints/last.ckpt'",
        "trainer.max_epochs=9",
    ]


@pytest.mark.parametrize(
    ("choices", "typed", "recipe"),
    [
        # the model may have another recipe now
        ({"model": "cifar10_vit_210k", "recipe": "segmentation"}, [], "segmentation"),
        ({"model": "cifar10_vit_210k"}, [], "plain"),  # from before recipes were recorded, like those below
        ({"model": "scenes_unet_64k", "task": "Segmentation"}, [], "segmentation"),
        ({"model": "hybrid_light"}, [], "hybrid_imagenet"),
        ({"model": "hybrid_light"}, ["recipe=plain"], "plain"),
    ],
)
def test_a_run_goes_on_by_its_own_recipe(choices: dict[str, str], typed: list[str], recipe: str, folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"choices": choices, "task": choices.get("task")}))
    expanded = expand([f"resume={folder}", *typed])
    assert [one for one in expanded if one.startswith("recipe=")] == [f"recipe={recipe}"]


def test_recorded_values_are_checked_against_the_run_s_own_recipe(folder: Path) -> None:
    """`pct_start` belongs to the schedule of recipe=segmentation, which the model does not choose."""
    (folder / "run.json").write_text(json.dumps({"choices": {"model": "mnist_cnn_8k", "recipe": "segmentation"}}))
    overrides = ["model=mnist_cnn_8k", "model.scheduler.pct_start=0.2"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    assert "model.scheduler.pct_start=0.2" in expand([f"resume={folder}"])
    with pytest.raises(ValueError, match="pct_start"):
        expand([f"resume={folder}", "recipe=plain"])


def test_a_recipe_that_is_gone_is_named(folder: Path) -> None:
    (folder / "run.json").write_text(json.dumps({"choices": {"recipe": "../../evil"}}))
    with pytest.raises(ValueError, match=r"was trained with recipe=\.\./\.\./evil, which this checkout does not have"):
        expand([f"reproduce={folder}"])


def test_an_empty_word_is_left_for_hydra_to_answer(folder: Path) -> None:
    assert expand([f"reproduce={folder}", ""])[-1] == ""


def test_reproducing_is_the_recorded_command_anew(folder: Path) -> None:
    assert expand([f"reproduce={folder}"]) == [
        "model=mnist_cnn_8k",
        "+trainer.benchmark=true",
        "ckpt_path=old.ckpt",  # where it started
        f"++reproduce='{folder}'",
        "seed=17",
    ]


def test_other_command_lines_are_left_alone(folder: Path) -> None:
    expanded = expand([f"resume={folder}"])  # as a second process of a DDP run receives it
    for arguments in ([], ["model=x", "-m"], ["resume=null"], ["resume="], expanded):
        assert expand(arguments) == arguments


def test_a_run_without_a_checkpoint_yet_starts_over(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(folder / "checkpoints")
    given = [argument for argument in expand([f"resume={folder}"]) if argument.startswith("ckpt_path")]
    assert given == ["ckpt_path=old.ckpt"]  # where it started
    assert "There is no checkpoint" in caplog.text and "starts over" in caplog.text


def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last, previous = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "previous"))
    good = last.read_bytes()
    middle = len(good) // 2
    for bad in (good[:-10], good[:middle], b"", good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]):
        last.write_bytes(bad)
        caplog.clear()
        assert Run.open(folder).resumable_checkpoint() == previous
        assert not last.exists() and last.with_name("last.ckpt.damaged").read_bytes() == bad
        assert f"{last} cannot be read as a checkpoint: it is truncated or damaged" in caplog.text
    for path in (last, previous):
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"cannot be resumed: last.ckpt and previous.ckpt are damaged"):
        Run.open(folder).resumable_checkpoint()


def test_a_run_whose_checkpoints_were_set_aside_does_not_start_over(folder: Path) -> None:
    for name in ("last", "previous"):
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(b"nothing")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"last.ckpt and previous.ckpt are damaged.*train again.* reproduce="):
            expand([f"resume={folder}"])
    kept = folder / "checkpoints" / "epoch_013.ckpt"
    torch.save({"state_dict": {}}, kept)
    with pytest.raises(ValueError, match=rf"are damaged.* resume={folder} ckpt_path={kept}, .* init_from={kept}"):
        expand([f"resume={folder}"])
    given = expand([f"resume={folder}", f"ckpt_path={kept}"])  # as the message suggests
    assert [argument for argument in given if argument.startswith("ckpt_path")] == [f"ckpt_path='{kept}'"]


def test_a_run_that_has_lost_its_last_checkpoints_does_not_start_over(folder: Path) -> None:
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    torch.save({"state_dict": {}}, folder / "checkpoints" / "epoch_000.ckpt")  # and killed before last.ckpt was written
    assert f"++resume='{folder}'" in expand([f"resume={folder}"])
    torch.save({"state_dict": {}}, folder / "checkpoints" / "epoch_013.ckpt")
    message = r"is missing last.ckpt although epoch_013.ckpt exists: resume from an epoch checkpoint with .*, or start"
    with pytest.raises(ValueError, match=message):
        expand([f"resume={folder}"])


def test_nothing_is_set_aside_while_another_process_is_at_it(folder: Path) -> None:
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"damaged")
    with locked(folder), pytest.raises(FolderInUse, match="is in use"):
        expand([f"resume={folder}"])
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("last/data/9", bytes(2**20))
    with pytest.raises(ValueError, match="its contents are larger than the file"):
        read_checkpoint(path)


def test_what_is_changed_when_a_run_is_resumed_is_remembered(folder: Path) -> None:
    overrides = ["model=mnist_cnn_8k", "resume='x'", "seed=17", "ckpt_path='x/last.ckpt'", "trainer.max_epochs=9"]
    record_overrides(folder, [*overrides, "allowed_targets=[mine]"])
    assert read_yaml(folder / OVERRIDES) == ["model=mnist_cnn_8k", "trainer.max_epochs=9", "ckpt_path=old.ckpt"]
    assert "trainer.max_epochs=9" in expand([f"resume={folder}"])


def test_a_sweep_cannot_be_resumed_as_one_and_flags_come_first(folder: Path) -> None:
    with pytest.raises(ValueError, match="one by one"):
        expand(["-m", f"resume={folder}"])
    assert expand([f"+resume={folder}", "trainer.max_epochs=3", "--cfg=job"])[0] == "--cfg=job"


@pytest.mark.parametrize(
    "options", [["--cfg", "job", "--resolve"], ["--config-dir", "my configs"], ["-cn", "train"], ["--info", "plugins"]]
)
def test_options_keep_their_values(options: list[str], folder: Path) -> None:
    resume, changed = f"resume={folder}", ["trainer.max_epochs=9", "~logger"]
    assert expand([resume, *options, *changed]) == [*options, *expand([resume, *changed])]


def test_what_is_no_run_is_answered_with_a_sentence(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not the folder of a run"):
        expand([f"resume={tmp_path}/nowhere"])
    with pytest.raises(ValueError, match="one at a time"):
        expand([f"resume={folder}", f"reproduce={folder}"])


def test_differences_are_told_one_by_one_and_none_too(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    same = {"model": {"lr": 1, "old": 2}, "seed": 3}
    with caplog.at_level(logging.INFO):
        log_differences(same, Run(folder), {"cpus": 2, "packages": {"torch": "1"}, "started": "now"})
        assert "Nothing differs" in caplog.text
        caplog.clear()
        log_differences({"model": {"lr": 5, "new": 1}}, Run(folder), {"cpus": 4, "packages": {"torch": "1"}})
    lines = {line.strip() for line in caplog.text.splitlines()[1:]}
    assert lines == {"model.lr: 1 -> 5", "model.old: 2 -> absent", "model.new: absent -> 1", "cpus: 2 -> 4"}


def test_what_was_changed_when_a_run_was_resumed_is_told_of_its_reproduction(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = {"trainer": {"max_epochs": 4}, "resume": str(folder), "ckpt_path": f"{folder}/checkpoints/last.ckpt"}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(stored))
    changes = [
        {"trainer.max_epochs": [2, 3], "lr": [1, 5]},
        None,
        "damaged",
        {"trainer.max_epochs": [3, 4]},
        {"lr": [5, 1]},
    ]
    resumed = [{"changed": one} for one in changes]
    (folder / "run.json").write_text(json.dumps({"cpus": 2, "resumed": resumed}))
    again = {"trainer": {"max_epochs": 4}, "reproduce": str(folder), "ckpt_path": None}
    log_differences(again, Run(folder), {"cpus": 2})
    assert [line.strip() for line in caplog.text.splitlines()[1:]] == ["trainer.max_epochs: 2 -> 4 (changed on resume)"]
    caplog.clear()
    log_differences({**again, "reproduce": None, "resume": str(folder)}, Run(folder), {"cpus": 2})
    assert "changed on resume" not in caplog.text  # it continues


def test_a_job_that_has_begun_goes_on(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"resume": None, "seed": None, "ckpt_path": None})
    assert not resume_job(cfg, tmp_path)
    (tmp_path / "job.json").write_text("{}")
    assert not resume_job(cfg, tmp_path) and cfg.resume is None  # it has not started
    (tmp_path / "run.json").write_text(json.dumps({"seed": 17}))
    assert resume_job(cfg, tmp_path) and (cfg.resume, cfg.seed, cfg.ckpt_path) == (str(tmp_path), 17, None)
    cfg.resume = None
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints" / "last.ckpt")
    assert resume_job(cfg, tmp_path) and cfg.ckpt_path == str(tmp_path / "checkpoints" / "last.ckpt")
    assert not resume_job(cfg, tmp_path)  # resume= determines everything already


@pytest.mark.parametrize("seed", ["${oc.env:HOME}", -1, 2**32, True, [1]])
def test_a_job_takes_no_seed_that_is_none(seed: object, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps({"seed": seed}))
    cfg = OmegaConf.create({"resume": None, "seed": 3, "ckpt_path": None})
    assert resume_job(cfg, tmp_path) and cfg.seed == 3


def test_a_run_that_is_no_job_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seed": 17}))
    cfg = OmegaConf.create({"resume": None, "seed": 1, "ckpt_path": None})
    assert not resume_job(cfg, tmp_path) and cfg.seed == 1


def test_a_linked_folder_of_checkpoints_is_refused_before_one_is_set_aside(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path.with_name(f"{tmp_path.name}_outside")
    (folder / "checkpoints").rename(outside)
    (outside / "last.ckpt").write_bytes(b"damaged")
    (folder / "checkpoints").symlink_to(outside)
    with pytest.raises(ValueError, match="checkpoints is a symbolic link"):
        expand([f"resume={folder}"])
    assert {path.name for path in outside.iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_a_job_of_a_sweep_goes_on_by_the_recipe_that_it_was_begun_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {"recipe": "segmentation"}
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: OmegaConf.create({"runtime": {"choices": choices}}))
    check_recipe(Run(folder))  # nothing is recorded
    (folder / "run.json").write_text(json.dumps({"choices": {"recipe": "segmentation"}}))
    check_recipe(Run(folder))
    choices["recipe"] = "plain"
    with pytest.raises(ValueError, match=r"was started with recipe=segmentation, but its recipe is now plain"):
        check_recipe(Run(folder))
