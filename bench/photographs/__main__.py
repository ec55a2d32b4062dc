"""Denoisers beside each other on a folder of photographs: PSNR, SSIM and CPU time, as rows of a table.

    python -m bench.photographs FOLDER --run RUN [--run RUN] [--classical] [--grey] [--noise 15 25 50]

RUN holds a checkpoint of a photo denoiser. Noise is drawn by `bundle.noise` with seed 0 and not clipped; images are
rounded to 8 bits before they are judged; figures are means over the folder. One thread. The classical denoisers have
an environment of their own, because the licence of BM3D's package allows non-commercial use alone:

    python -m venv build/bench/photographs
    build/bench/photographs/bin/pip install bm3d==4.0.3 scikit-image==0.26.0 PyWavelets==1.9.0
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from training import checkpoint
from training.evaluation import photographs
from training.evaluation.photographs import GREY_LEVELS, Photograph, Quality

CLASSICAL = ("BM3D", "non-local means", "wavelets")
PROGRAM, PYTHON = Path(__file__).with_name("classical.py"), Path("build/bench/photographs/bin/python")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row for each denoiser."""
    flags = parse(arguments)
    torch.set_num_threads(1)
    print("| denoiser | " + " | ".join(f"{level:g}" for level in flags.noise) + " | CPU seconds a megapixel |")
    print("| --- |" + " --- |" * (len(flags.noise) + 1))
    for name in (*map(str, flags.run), *flags.classical):
        found = list(_row(name, flags))
        seconds = np.mean([each.seconds for each in found])
        figures = " | ".join(f"{each.psnr:.2f} / {each.ssim:.3f}" for each in found)
        print(f"| {name} | {figures} | {seconds:.2f} |", flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    flags = argparse.ArgumentParser(prog="python -m bench.photographs", description=(__doc__ or "").splitlines()[0])
    flags.add_argument("folder", type=Path, help="photographs without noise")
    flags.add_argument("--run", type=Path, action="append", default=[], help="a run of a photo denoiser; repeatable")
    flags.add_argument("--classical", nargs="*", choices=CLASSICAL, default=[], help="denoisers without training")
    flags.add_argument("--noise", type=float, nargs="+", default=[15, 25, 50], help="standard deviations, of 255")
    flags.add_argument("--grey", action="store_true", help="drop colours")
    return flags.parse_args(arguments)


def _row(name: str, flags: argparse.Namespace) -> Iterator[Quality]:
    """The quality of one denoiser at each noise level."""
    model = None if name in CLASSICAL else checkpoint.load(Path(name)).model
    channels = model.image_shape[2] if model else 1 if flags.grey else 3
    for level in flags.noise:
        noisy = photographs.with_noise(flags.folder, channels, level / GREY_LEVELS)
        if model:
            yield photographs.measure(model, noisy, level / GREY_LEVELS)[2]
        else:
            yield classical(name, list(noisy), level / GREY_LEVELS)


def classical(method: str, noisy: Sequence[Photograph], level: float) -> Quality:
    """The quality of a denoiser without training, run by the interpreter of its environment."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "noisy.npz"), Path(folder, "denoised.npz")
        np.savez(source, **{each.name: each.noisy for each in noisy})  # pyright: ignore[reportArgumentType]
        command = [str(PYTHON), str(PROGRAM), method, str(level), str(source), str(target)]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        with np.load(target) as denoised:
            found = [photographs.quality(denoised[each.name].astype(np.float32), each.clean) for each in noisy]
            megapixels = sum(each.clean[..., 0].size for each in noisy) / 1e6
            return photographs.mean(found, float(denoised["seconds"]) / megapixels)


if __name__ == "__main__":
    main()
