"""A job of a sweep that is started again goes on from its checkpoint, with the configuration of the command."""

import json
from pathlib import Path

import torch
from omegaconf import OmegaConf

from src.utils.rerun import go_on


def test_a_job_that_has_begun_goes_on(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"resume": None, "seed": None, "ckpt_path": None})
    assert not go_on(cfg, tmp_path)
    (tmp_path / "job.json").write_text("{}")
    assert not go_on(cfg, tmp_path) and cfg.resume is None  # it has not begun
    (tmp_path / "run.json").write_text(json.dumps({"seed": 17}))
    assert go_on(cfg, tmp_path) and (cfg.resume, cfg.seed, cfg.ckpt_path) == (str(tmp_path), 17, None)
    cfg.resume = None
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": {}}, tmp_path / "checkpoints" / "last.ckpt")
    assert go_on(cfg, tmp_path) and cfg.ckpt_path == str(tmp_path / "checkpoints" / "last.ckpt")
    assert not go_on(cfg, tmp_path)  # resume= says it all already


def test_a_run_that_is_no_job_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"seed": 17}))
    cfg = OmegaConf.create({"resume": None, "seed": 1, "ckpt_path": None})
    assert not go_on(cfg, tmp_path) and cfg.seed == 1
