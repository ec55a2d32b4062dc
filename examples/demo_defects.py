"""The demo of defect detection: trains on a texture's normal images, exports, serves, detects, draws what was found.

    python -m examples.demo_defects

The data are a texture of scikit-image with planted defects; every step runs the same command line as a user would.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from hourglass_client import Client
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from examples.demo import exit_code, step
from examples.demo_picture import EDGE, FAINT, INK
from examples.local_server import running
from training.data.defects import textures

MODEL, TEXTURE = "defects", "gravel"
RATES = (0.1, 0.01)
COLUMNS = 8
DOTS_PER_INCH = 150
BOX = "#d55e00"


@dataclass(frozen=True)
class Answered:
    """Images uint8 (N, H, W, 1), what they show, and the answer at the default false-alarm rate."""

    images: NDArray[np.uint8]
    kinds: tuple[str, ...]
    found: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 on success, 1 if a step failed."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo_defects", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--epochs", type=int, help="of training; by default the recipe's")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and pictures go")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where exported models go")
    return exit_code(run, parser.parse_args(arguments))


def run(options: argparse.Namespace) -> None:
    """Train, export, serve, detect, draw and print the table."""
    out: Path = options.runs / MODEL
    epochs = ["--epochs", str(options.epochs)] if options.epochs else []
    data = ["--data", "textures", "--set", f"data.normal={TEXTURE}"]
    seconds = step("training", MODEL, *data, *epochs, "--overwrite", "--out", str(out))
    seconds += step("export", str(out), "--repository", str(options.models))
    folder: Path = options.runs / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    with running(options.models, folder / "server-defects.log") as server, Client(server.address) as client:
        answered, table = detect(client)
    draw(answered, folder / "demo-defects.png")
    print(f"\ntrained and exported   {seconds:.0f} s\n")
    print("\n".join(table))
    print(f"\npicture                {folder / 'demo-defects.png'}")
    print("go on                  docs/find-defects.md: the same on your own pictures")


def detect(client: Client) -> tuple[Answered, list[str]]:
    """Send normal and defective images; what came back for the picture, and lines of a table."""
    judged = textures.splits(TEXTURE)[1]
    kinds, tested = np.array(judged.kinds), np.asarray(judged.test)
    lines = [f"{'images':<12}{'number':>8}" + "".join(f"   alarms at {rate:.0%}" for rate in RATES)]
    answers = {rate: client.detect(tested, model=MODEL, false_alarm_rate=rate) for rate in RATES}
    for kind in dict.fromkeys(judged.kinds):
        rows = kinds == kind
        shares = "".join(f"{np.asarray(answers[rate].anomalous)[rows].mean():>15.0%}" for rate in RATES)
        lines.append(f"{kind:<12}{rows.sum():>8}{shares}")
    chosen = np.concatenate([np.flatnonzero(kinds == kind)[:2] for kind in dict.fromkeys(judged.kinds)])[:COLUMNS]
    began = perf_counter()
    client.detect(tested[:1], model=MODEL)
    lines.append(f"\none image              {(perf_counter() - began) * 1e3:.1f} ms")
    images = tested[chosen]
    found = client.detect(images, model=MODEL, map_format="float32")
    return Answered(images, tuple(kinds[chosen]), found), lines


def draw(answered: Answered, path: Path) -> None:
    """Draw images above their maps and the boxes of what was found, into a PNG file."""
    count = len(answered.images)
    figure = Figure(figsize=(1.42 * count + 0.2, 3.75), dpi=DOTS_PER_INCH, facecolor="white", layout="constrained")
    figure.suptitle("Hourglass: defects found by a network that has seen normal images alone", color=INK, fontsize=13)
    axes = figure.subplots(2, count)
    maps = np.asarray(answered.found.maps)[..., 0]
    for column, image in enumerate(answered.images[..., 0]):
        axes[0, column].imshow(image, cmap="gray", vmin=0, vmax=255)
        axes[0, column].set_title(answered.kinds[column], color=INK, fontsize=10)
        axes[1, column].imshow(maps[column], cmap="magma", vmin=0, vmax=2 * answered.found.map_threshold)
        says = "alarm" if answered.found.anomalous[column] else "normal"
        axes[1, column].set_xlabel(f"{says}, {answered.found.scores[column]:.2f}", color=FAINT, fontsize=9)
        for region in answered.found.regions:
            if region.image == column:
                corner = region.left - 2, region.top - 2
                box = Rectangle(corner, region.width + 3, region.height + 3, fill=False, edgecolor=BOX)
                axes[0, column].add_patch(box)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color(EDGE)
    FigureCanvasAgg(figure).print_png(str(path))


if __name__ == "__main__":
    sys.exit(main())
