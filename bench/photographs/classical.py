"""Denoisers without training: BM3D, non-local means, wavelets. Runs in an environment of its own; see `__main__.py`.

    build/bench/photographs/bin/python bench/photographs/classical.py METHOD LEVEL NOISY.npz DENOISED.npz

NOISY holds images (H, W, C) by name, in 0 to 1 with noise of the standard deviation LEVEL; DENOISED gets the same
names, and `seconds`, the CPU time of the denoiser alone.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from time import process_time
from typing import Any

import numpy as np

restoration: Any = import_module("skimage.restoration")
# Arrays of another environment, which this one does not type.
Denoise = Callable[[Any, float], Any]


def bm3d(image: Any, level: float) -> Any:  # noqa: ANN401
    """Dabov et al. 2007; the package `bm3d`, whose licence is for non-commercial use."""
    package: Any = import_module("bm3d")
    return package.bm3d_rgb(image, level) if image.shape[2] > 1 else package.bm3d(image[..., 0], level)[..., None]


def non_local_means(image: Any, level: float) -> Any:  # noqa: ANN401
    """Buades et al. 2005, with the settings of scikit-image's example for its fast mode."""
    settings = {"h": 0.8 * level, "sigma": level, "patch_size": 5, "patch_distance": 6, "fast_mode": True}
    if image.shape[2] == 1:
        return restoration.denoise_nl_means(image[..., 0], **settings)[..., None]
    return restoration.denoise_nl_means(image, channel_axis=-1, **settings)


def wavelets(image: Any, level: float) -> Any:  # noqa: ANN401
    """BayesShrink (Chang et al. 2000), averaged over 16 shifts."""
    colour = {"convert2ycbcr": image.shape[2] > 1, "channel_axis": -1}
    shrink = partial(restoration.denoise_wavelet, sigma=level, rescale_sigma=True, **colour)
    return restoration.cycle_spin(image, func=shrink, max_shifts=3, channel_axis=-1, workers=1)


METHODS: dict[str, Denoise] = {"BM3D": bm3d, "non-local means": non_local_means, "wavelets": wavelets}


def main() -> None:
    """Denoise every image of a file."""
    method, level, source, target = sys.argv[1:]
    with np.load(source) as arrays:
        noisy = {name: arrays[name].astype(np.float64) for name in arrays.files}
    # What is loaded at the first call is not counted.
    METHODS[method](next(iter(noisy.values()))[:32, :32], float(level))
    began = process_time()
    denoised = {name: METHODS[method](image, float(level)).astype(np.float32) for name, image in noisy.items()}
    np.savez(target, seconds=np.array(process_time() - began), **denoised)


if __name__ == "__main__":
    main()
