"""What augmentation, regularisation and more epochs bring at each size of the training data.

    python benchmarks/data_sizes.py             # all that has not been measured yet, and the table in docs/choose.md
    python benchmarks/data_sizes.py --table     # only the table, of what has been measured

Each run is `experiment=quickstart` on some of the digits of mnist_5k, with one change, and is judged by the accuracy on
digits that it was not trained on; the test digits are not looked at. Two runs at a time, with one thread each. Results
are kept in benchmarks/results/data_sizes.json. Needs the extra [demo].
"""

import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.readme import write_table
from benchmarks.recipes import ONE_THREAD, SEEDS, format_gain, measure_all, values

DIGITS = 4000  # of mnist_5k that are not for the test
SIZES = (350, 1000, 3500)
AS_IT_IS = "as it is"
CHANGES: dict[str, list[str]] = {
    AS_IT_IS: [],
    "60 epochs instead of 15": ["trainer.max_epochs=60"],
    "no augmentation": ["data/augmentation=none"],
    "ten times the weight decay": ["model.optimizer.weight_decay=0.5"],
    "mixup": ["model/mixing=mixup"],
}


def commands(size: int, change: str) -> list[list[str]]:
    """Return the commands that train on so many digits with a change, by seeds."""
    words = ["experiment=quickstart", "callbacks=[default,cpu_autotune,ema]", *ONE_THREAD, *CHANGES[change]]
    words += [f"data.val_size={DIGITS - size}"]
    return [[*words, "trainer.check_val_every_n_epoch=15", "test=false", f"seed={seed}"] for seed in SEEDS]


def cell(size: int, change: str) -> str:
    """Return the mean accuracy in percent, or the mean gain over no change, with its 95 % interval."""
    plain, changed = (
        [100 * one for one in values(commands(size, name), "val/acc", "data_sizes")] for name in (AS_IT_IS, change)
    )
    if min(len(plain), len(changed)) < len(SEEDS):
        return "not run"
    if change == AS_IT_IS:
        return f"{mean(plain):.2f} %"
    return format_gain(plain, changed)


def main() -> None:
    """Measure what is missing, then write the table."""
    if "--table" not in sys.argv:
        for change in CHANGES:
            measure_all([words for size in SIZES for words in commands(size, change)], at_a_time=2, file="data_sizes")
    rows = [["", *(f"{size:,} digits" for size in SIZES)], ["---", *["---:"] * len(SIZES)]]
    rows += [[change, *(cell(size, change) for size in SIZES)] for change in CHANGES]
    write_table("the sizes of data", rows)


if __name__ == "__main__":
    main()
