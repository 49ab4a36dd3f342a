"""Make the picture of the README: train a few small nets on mnist_5k, compare them, and take a screenshot of the page.

    python benchmarks/picture.py                 # a minute or two; writes docs/images/compare.png
    python benchmarks/picture.py <folder>        # of an existing sweep

Needs the extras [demo] and [dev], and Chromium with its driver (apt-get install chromium chromium-driver).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "compare.png"
SWEEP = ["model=mnist_sdn_8k,mnist_cnn_8k,mnist_cnn_68k,mnist_vit_38k", "seed=1,2", "data=mnist_5k"]
SWEEP += ["trainer.max_epochs=6", "callbacks.image_report=null"]
WIDTH, HEIGHT = 1180, 760
SHOWN = "#data-1 .curves"
COLOURS = 128  # of the PNG's palette, which keeps it small


def photograph(page: Path) -> None:
    """Save a screenshot of the charts of scores and sizes on a page; times may be those of a busy machine."""
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"window-size={WIDTH},{HEIGHT}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options)
    metrics = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    PICTURE.parent.mkdir(exist_ok=True)
    browser.find_element("css selector", SHOWN).screenshot(str(PICTURE))
    browser.quit()
    with Image.open(PICTURE) as image:
        image.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)


def main() -> None:
    """Train if there is no sweep yet, compare, and take the screenshot."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(sys.argv[1]) if sys.argv[1:] else Path(folder, "sweep")
        python, compare = sys.executable, [f"runs=[{sweep}]", f"folder={folder}", f"hydra.run.dir={folder}/compare"]
        if not sys.argv[1:]:
            subprocess.run([python, "src/train.py", "-m", *SWEEP, f"hydra.sweep.dir={sweep}"], cwd=ROOT, check=True)
        subprocess.run([python, "src/compare.py", *compare], cwd=ROOT, check=True)
        photograph(Path(folder, "compare.html"))
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
