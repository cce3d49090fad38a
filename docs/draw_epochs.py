"""Puts the same photos at several epochs of a run side by side: the report's figure 3.

    python docs/draw_epochs.py runs/pix2pix-64 --epochs 1 10 30 100 --output epochs.jpg

It takes them from the pictures that the run drew at its validations, of which it chooses those
closest to the epochs.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from colorgan_jax.training.metric_log import read_metrics

# The pictures have three columns of one width, below a line with their names.
_GRAY, _GENERATED, _REAL = range(3)
_HEADING = 44


def column(picture: Image.Image, number: int) -> Image.Image:
    """One of the three, without its name."""
    width = picture.width / 3
    edges = (round(number * width), _HEADING, round((number + 1) * width))
    return picture.crop((*edges, picture.height))


def _closest(epoch: int, epochs: Iterable[float]) -> float:
    return min(epochs, key=lambda other: abs(other - epoch))


def draw(run: Path, epochs: list[int]) -> Image.Image:
    """Gray, the epochs and the real photos, each with its name above."""
    steps = {
        row["epoch"]: row["step"]
        for row in read_metrics(run / "metrics.csv")
        if "validation_psnr" in row
    }
    if not steps:
        sys.exit(f"{run} has no validations.")
    chosen = sorted({_closest(epoch, steps) for epoch in epochs})
    pictures = [
        Image.open(run / "samples" / f"step_{steps[epoch]:07d}.png").convert("RGB")
        for epoch in chosen
    ]
    columns = {"gray": column(pictures[0], _GRAY)}
    for epoch, picture in zip(chosen, pictures, strict=True):
        columns[f"epoch {epoch:g}"] = column(picture, _GENERATED)
    columns["real"] = column(pictures[0], _REAL)
    width, height = columns["gray"].size
    whole = Image.new("RGB", (width * len(columns), height + _HEADING), "white")
    pen = ImageDraw.Draw(whole)
    for number, (name, picture) in enumerate(columns.items()):
        whole.paste(picture, (number * width, _HEADING))
        middle = ((number + 0.5) * width, _HEADING / 2)
        pen.text(middle, name, "black", ImageFont.load_default(28), anchor="mm")
    return whole


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="work directory of a training run")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 10, 30, 100])
    parser.add_argument("--output", type=Path, default=Path("epochs.jpg"))
    parser.add_argument("--width", type=int, default=1200, help="default: %(default)s")
    options = parser.parse_args()
    picture = draw(options.run, options.epochs)
    picture.thumbnail((options.width, picture.height), Image.Resampling.LANCZOS)
    picture.save(options.output, quality=85)


if __name__ == "__main__":
    main()
