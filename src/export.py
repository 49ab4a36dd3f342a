"""Export a trained net: `python src/export.py run_dir=logs/train/runs/… formats=[onnx] precisions=[fp32,int8]`."""

import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.system.signals import listener

if __name__ == "__main__":
    listener.listen()  # before the imports, which take a while

from omegaconf import DictConfig

from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.deploy.formats import check_choices
from src.run.reuse import check_run_config, chosen_run, load_run_config, results_folder


def export(cfg: DictConfig) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Export a run's net in every requested format and precision, and check and measure each exported model.

    Returns:
        The metrics of the net and of each exported model, by name, and the objects used.
    """
    apply_extras(cfg)
    check_choices(cfg.formats, cfg.precisions)
    ckpt_path = chosen_run(cfg).best_checkpoint()
    check_run_config(cfg)
    parent = results_folder(cfg, ckpt_path, "export")

    import lightning as L  # here, so that mistakes above are reported at once

    from src.deploy import exporting
    from src.deploy.quantizer import Quantizer
    from src.deploy.report import print_lines, print_models
    from src.deploy.speed import compare_speeds, weights_size
    from src.predictor import input_shape
    from src.run.calibration import read_temperatures
    from src.run.instantiate import build_datamodule, build_trained_model

    for format, precision in product(cfg.formats, cfg.precisions):
        exporting.check_replaceable(parent / f"{format}_{precision}")
    L.seed_everything(cfg.seed, verbose=False)
    model: Any = build_trained_model(cfg, ckpt_path)
    if cfg.calibrated:
        model.temperatures = read_temperatures(ckpt_path)
    datamodule = build_datamodule(cfg)
    card = datamodule.input_card()
    batches = exporting.split_loaders(datamodule)
    objects = {"cfg": cfg, "model": model, "datamodule": datamodule}
    rows: dict[str, dict[str, Any]] = {"fp32": {"size_mb": weights_size(model.net) / 1e6}}
    remarks, failures, folders = [], [], {}
    for format, precision in product(cfg.formats, cfg.precisions):
        name = f"{format}_{precision}"
        folder = parent / name
        try:
            if precision == "int8":
                quantizer = Quantizer(**{**cfg.quantization, "format": format})
                quantized = quantizer(model, card, batches, folder, strict=True)
                result = quantized.test
                rows[name] = {"size_mb": quantized.size_mb, **quantized.layer_counts}
                remarks += [f"{name}: {remark}" for remark in quantized.remarks(quantizer.max_drop)]
            else:
                write = partial(exporting.export, model, card, batches["test"], folder)
                result = write(format, precision, cfg.quantization.max_drop)
                rows[name] = {"size_mb": exporting.size_mb(folder)}
                equal = "" if result.equal is None else f", {result.equal:.2%} of {result.images} predictions are equal"
                remarks.append(
                    f"{name}: {folder}; outputs differ by up to {result.max_difference:.1g} from the net's{equal}"
                )
        except ValueError as error:  # the others are still exported
            failures.append(f"{name}: {error}")
            continue
        rows[name][model.score], rows["fp32"][model.score] = result.value, result.reference_value
        folders[name] = folder
    if folders:
        speeds = compare_speeds(model.net, folders, input_shape(card), cfg.seconds, cfg.compiled)
        print_models({name: row | speeds[name] for name, row in rows.items()}, model.score, str(ckpt_path))
    print_lines(*remarks)
    if failures:
        raise ValueError(" ".join(failures))
    return {name: row | speeds[name] for name, row in rows.items()}, objects


@entry_point("export", prepare=lambda: load_run_config(sys.argv[1:], groups=("data",)))
def main(cfg: DictConfig) -> None:
    """Export as the command line says."""
    export(cfg)


if __name__ == "__main__":
    main()
