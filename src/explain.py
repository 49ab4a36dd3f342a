"""Explain a trained net on a page: `python src/explain.py run_dir=logs/train/runs/…`."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.system.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.cli.output import printed_as
from src.explanation.other_data import check_name
from src.run.reuse import check_run_config, chosen_run, load_run_config, results_folder

PRINTED = 3  # number of confusions


def explain(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a page about what a trained net gets right and wrong, and keep its temperatures in the run.

    Returns:
        The figures of each section by its name; the page and other objects.
    """
    apply_extras(cfg)
    if cfg.images < 1:
        raise ValueError(f"images={cfg.images} must be at least 1.")
    check_name(cfg.ood)
    ckpt_path = chosen_run(cfg).best_checkpoint()
    check_run_config(cfg)
    folder = results_folder(cfg, ckpt_path, "explain")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={folder} is a file: name a folder.")

    import lightning as L  # here, so that mistakes above are reported at once

    from src.explanation.page import write
    from src.explanation.report import explain_run, keep_temperatures
    from src.explanation.subject import Subject
    from src.models.task import DescribesInputs
    from src.run.instantiate import build_datamodule, build_trained_model

    L.seed_everything(cfg.seed, verbose=False)
    model = build_trained_model(cfg, ckpt_path)
    datamodule = build_datamodule(cfg)
    if not isinstance(datamodule, DescribesInputs):
        kind = type(datamodule).__name__
        raise ValueError(f"{kind} needs the method input_card(), which describes its inputs: see docs/extend.md.")
    subject = Subject(model, datamodule, cfg.images)
    if not len(subject.splits["test"]):
        raise ValueError("The run's data have no test images to explain it with: choose others with data=….")
    facts, sections, temperatures = explain_run(subject, cfg, ckpt_path)
    page = write(folder, f"What {facts['net'].split(',')[0]} has learnt", facts, sections)
    figures = {key: section.figures for key, section in sections.items()}
    score = f"test {model.score}"
    sys.stdout.write(f"{score}: {facts[score]} on {subject.splits['test'].described} test samples\n")
    for output, pairs in sections["confusions"].figures.items():
        frequent = [f"{pair['true']} taken for {pair['predicted']} ({pair['count']:,})" for pair in pairs[:PRINTED]]
        sys.stdout.write(f"most confused, {output}: {', '.join(frequent)}\n")
    sys.stdout.write(f"page: {page}\n")
    if temperatures:
        sys.stdout.write(f"{keep_temperatures(temperatures, subject, ckpt_path)}\n")
    return figures, {"cfg": cfg, "model": model, "datamodule": datamodule, "sections": sections, "page": page}


@entry_point("explain", prepare=lambda: load_run_config(sys.argv[1:], groups=("data",)))
def main(cfg: DictConfig) -> None:
    """Explain as the command line says."""
    with printed_as(cfg.format) as result:
        figures, _ = explain(cfg)
        result |= figures


if __name__ == "__main__":
    main()
