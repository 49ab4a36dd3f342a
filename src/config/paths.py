"""The folders of this checkout and of its configurations."""

from pathlib import Path

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / ".project-root").is_file())
CONFIGS = ROOT / "configs"
