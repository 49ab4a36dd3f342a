"""Describe a net layer by layer: `python src/describe.py model=scenes_unet_210k` gives a card, as table and page."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the `src` of this checkout, from whatever folder

from src.sweeps.ending import listen_from_the_start

if __name__ == "__main__":
    listen_from_the_start()  # before the imports, which take a while

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from src.cards.comparison import end, named_choices
from src.cli.entry_point import entry_point
from src.cli.extras import apply_extras
from src.cli.output import printed_as
from src.config.targets import check_targets
from src.run.reuse import reusable_config
from src.run.run import Run


def describe(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the net of `cfg`, or of the run that it names, and write the card into a folder.

    Returns:
        The card, see `src.cards.card.make_card`; the config and the model.
    """
    apply_extras(cfg)
    check_settings(cfg)
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    name, data, batch_size = choices.get("model"), choices.get("data"), cfg.batch_size
    run = Run.open(cfg.run_dir) if cfg.run_dir else None
    if run is not None:
        config = reusable_config(run)
        check_targets(config, cfg.allowed_targets)
        name, data = named_choices(run.record).values()
        batch_size = batch_size or config["data"].get("batch_size")
        check_batch_size(batch_size)

    import lightning as L  # here, so that mistakes in the config are reported at once

    from src.cards.card import make_card, write_card
    from src.cards.page import write_page
    from src.cards.text import write_markdown
    from src.run.instantiate import build_trained_model, instantiate, silence_lightning
    from src.speed.benchmark import threads_of

    silence_lightning()
    L.seed_everything(cfg.seed, verbose=False)
    if run is not None:
        model = build_trained_model(OmegaConf.create(config), run.best_checkpoint())
    else:
        model = instantiate(cfg.model)
    with threads_of(cfg):
        card = make_card(
            model,
            name=name or type(model.net).__name__,
            data=data or "",
            batch_size=batch_size or cfg.data.batch_size,
            timing=cfg.timing,
            seconds=cfg.seconds,
            run=run.folder if run else None,
        )
    write_card(card, folder)
    write_markdown(card, folder)
    write_page(card, folder)
    return card, {"cfg": cfg, "model": model}


def check_settings(cfg: DictConfig) -> None:
    """Check the settings of a card.

    Raises:
        ValueError: names the first that is invalid.
    """
    check_batch_size(cfg.batch_size)
    if cfg.seconds <= 0:
        raise ValueError(f"seconds={cfg.seconds} must be more than 0.")


def check_batch_size(value: Any) -> None:
    """Raise ValueError unless a value is None or a number of inputs."""
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"batch_size={value} must be a number of inputs, such as 32.")


def check_arguments(arguments: list[str]) -> None:
    """Refuse `run_dir=` together with a model, data or recipe, which the run determines.

    Raises:
        ValueError: both are given.
    """
    keys = [argument.partition("=")[0].lstrip("+") for argument in arguments]
    chosen = [key for key in keys if re.split(r"[./]", key)[0] in ("model", "data", "recipe")]
    if "run_dir" in keys and chosen:
        raise ValueError(f"{chosen[0]}= and run_dir= are given, but the net comes from the run: leave one of them out.")


@entry_point("describe", prepare=lambda: check_arguments(sys.argv[1:]))
def main(cfg: DictConfig) -> None:
    """Print the card of the net that the command line names; for a sweep, `end` prints the totals."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    with printed_as(cfg.format) as result:
        card, _ = describe(cfg, folder)
        result |= card
        if hydra.mode == RunMode.RUN and cfg.format == "table":
            from src.cards.text import print_card

            print_card(card, folder)


if __name__ == "__main__":
    try:
        main()
    finally:
        end()
