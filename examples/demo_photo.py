"""The photo demo: trains a denoiser on photographs that come in packages, serves it, and draws what it does.

    python -m examples.demo_photo
    python -m examples.demo_photo --minutes 20

Every step runs the same command line as a user would; the photographs of the picture were held out from training.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
from hourglass_client import Client
from numpy.typing import NDArray
from skimage import data
from skimage.restoration import denoise_nl_means
from sklearn.datasets import load_sample_image

from examples.demo import exit_code, step
from examples.demo_photo_picture import Panel, draw
from examples.lecture_numbers import psnr
from examples.local_server import running

RECIPE = "photo-denoiser"
MINUTES = 4.0
# A narrower network than the recipe's makes more steps of a few minutes.
SETTINGS = ["--set", "model.channels=[32]"]
HALF_PRECISION = ["--set", "device.precision=bfloat16"]
NOISE = (25, 50)
GREY_LEVELS = 255
SEED = 7
# Rows and columns of what is shown of each photograph.
SHOWN = (slice(20, 276), slice(90, 410)), (slice(60, 316), slice(160, 480))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 on success, 1 if a step failed."""
    return exit_code(run, parse(arguments))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo_photo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="CPU minutes of the training")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and pictures go")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where exported models go")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Train, export, serve, denoise, draw and print the table."""
    folder: Path = options.runs / "demo-photo"
    folder.mkdir(parents=True, exist_ok=True)
    out = options.runs / RECIPE
    settings = [*SETTINGS, *(HALF_PRECISION if computes_in_bfloat16() else [])]
    step("training", RECIPE, "--minutes", f"{options.minutes:g}", *settings, "--overwrite", "--out", str(out))
    step("export", str(out), "--repository", str(options.models))
    with running(options.models, folder / "server.log") as server, Client(server.address) as client:
        rows = [denoise(client, clean, level / GREY_LEVELS) for clean, level in zip(photographs(), NOISE, strict=True)]
    draw([[cut(panel, *shown) for panel in row] for row, shown in zip(rows, SHOWN, strict=True)], folder / "demo.png")
    for row, level in zip(rows, NOISE, strict=True):
        print(f"\nnoise {level} of {GREY_LEVELS}")
        for panel in row:
            print(f"  {panel.label:<18}{panel.note}")
    print(f"\npicture   {folder / 'demo.png'}")
    print("go on     your own photographs: docs/denoise-photographs.md")


def computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it, so that training takes half the time."""
    described = Path("/proc/cpuinfo")
    return described.is_file() and re.search(r"\b(avx512_bf16|amx_bf16)\b", described.read_text()) is not None


def photographs() -> list[NDArray[np.float32]]:
    """Photographs (H, W, 3) in 0…1 that the recipe holds out for test: a cat and a flower."""
    return [image.astype(np.float32) / GREY_LEVELS for image in (data.chelsea(), load_sample_image("flower.jpg"))]


def denoise(client: Client, clean: NDArray[np.float32], level: float) -> list[Panel]:
    """A photograph with noise of this standard deviation, what two denoisers make of it, and the photograph itself."""
    noise = np.random.default_rng(SEED).normal(0, level, clean.shape)
    noisy = (clean + noise).astype(np.float32)
    began = perf_counter()
    answer = client.denoise(noisy[None], model=RECIPE, noise_level=level, image_format="float32").images[0]
    served = perf_counter() - began
    began = perf_counter()
    means = denoise_nl_means(
        noisy, h=0.8 * level, sigma=level, patch_size=5, patch_distance=6, fast_mode=True, channel_axis=-1
    ).astype(np.float32)
    spent = perf_counter() - began
    return [
        Panel("noisy", _note(clean, noisy), noisy),
        Panel("non-local means", f"{_note(clean, means)}, {spent:.1f} s", means),
        Panel("Hourglass", f"{_note(clean, answer)}, {served:.1f} s", answer),
        Panel("photograph", "", clean),
    ]


def cut(panel: Panel, rows: slice, columns: slice) -> Panel:
    """A part of a panel."""
    return Panel(panel.label, panel.note, panel.image[rows, columns])


def _note(clean: NDArray[np.float32], other: NDArray[np.float32]) -> str:
    return f"{psnr(clean[None], other[None].clip(0, 1)):.1f} dB"


if __name__ == "__main__":
    sys.exit(main())
