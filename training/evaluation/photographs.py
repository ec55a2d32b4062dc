"""Photographs, whole and at their own sizes, through a denoiser: PSNR and SSIM, with added or with real noise."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, log10
from pathlib import Path
from typing import cast

import numpy as np
import torch
from autoencoder.v1.shapes import pad
from numpy.typing import NDArray
from torch import Tensor

from bundle.images import element_types
from bundle.images.decoder import SUFFIXES
from bundle.noise import Purpose, normals
from training.config import Data
from training.data import image_files, image_paths
from training.data.photos import pairs
from training.errors import ConfigError, DataError
from training.models.families import Network

GREY_LEVELS = 255
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Photograph:
    """Noisy and clean, float32 (H, W, C); clean pixels are in 0 to 1, noisy ones may be beyond."""

    name: str
    noisy: Floats
    clean: Floats


@dataclass(frozen=True)
class Quality:
    """Means over photographs, and CPU seconds a megapixel."""

    psnr: float
    ssim: float
    seconds: float = 0.0


def with_noise(folder: Path, channels: int, level: float) -> Iterator[Photograph]:
    """The images of a folder in the order of their names with Gaussian noise of this standard deviation, not clipped.

    Noise is `bundle.noise` with seed 0 and the image's number.

    Raises:
        DataError: no images, or one that cannot be read.
    """
    paths = image_paths.find(folder, SUFFIXES).paths
    if not paths:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    for number, path in enumerate(paths):
        clean = _read(path, channels)
        noise = normals(0, Purpose.SAMPLE, number, 1, clean.size).reshape(clean.shape)
        yield Photograph(path.name, (clean + level * noise).astype(np.float32), clean)


def of_pairs(folder: Path, channels: int) -> Iterator[Photograph]:
    """The pairs below `noisy` and `clean` in a folder.

    Raises:
        DataError: as `pairs.find`, or the sizes of a pair differ.
    """
    for noisy, clean in pairs.find(folder):
        found = Photograph(clean.name, _read(noisy, channels), _read(clean, channels))
        pairs.check_sizes(noisy, found.noisy, clean, found.clean)
        yield found


def denoise(model: Network, image: Floats, level: float) -> Floats:
    """(H, W, C) with noise of this standard deviation to the same without, in 0 to 1."""
    height, width, _ = image.shape
    size = (-(-height // model.multiple) * model.multiple, -(-width // model.multiple) * model.multiple)
    seen = torch.from_numpy(np.ascontiguousarray(pad(image, size))).permute(2, 0, 1)[None]
    levels = (torch.tensor([level], dtype=torch.float32),) if model.takes_noise_levels else ()
    with torch.no_grad():
        found = model.images(model.denoise(seen, *levels))[0]
    return found.permute(1, 2, 0).numpy()[:height, :width]


def measure(model: Network, photographs: Iterator[Photograph], level: float) -> tuple[int, Quality, Quality]:
    """How many photographs there are, the quality of the noisy ones, and of those that the model makes of them."""
    noisy, denoised, pixels, seconds = list[Quality](), list[Quality](), 0, 0.0
    for each in photographs:
        began = time.process_time()
        found = denoise(model, each.noisy, level)
        seconds += time.process_time() - began
        pixels += each.clean.shape[0] * each.clean.shape[1]
        noisy.append(quality(each.noisy, each.clean))
        denoised.append(quality(found, each.clean))
    return len(noisy), mean(noisy), mean(denoised, seconds / pixels * 1e6)


def quality(image: Floats, clean: Floats) -> Quality:
    """PSNR in dB and SSIM (Gaussian window 11x11, sigma 1.5) of an image (H, W, C) rounded to 8 bits."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim  # noqa: PLC0415 (a second)

    rounded = np.rint(np.clip(image, 0, 1) * GREY_LEVELS) / np.float32(GREY_LEVELS)
    error = float(np.mean((rounded.astype(np.float64) - clean) ** 2))
    ours, theirs = (
        torch.from_numpy(np.ascontiguousarray(each, np.float32)).permute(2, 0, 1)[None] for each in (rounded, clean)
    )
    psnr = -10 * log10(error) if error else inf
    return Quality(psnr, float(cast("Tensor", ssim(ours, theirs, data_range=1.0))))


def mean(found: Sequence[Quality], seconds: float = 0.0) -> Quality:
    """The mean over photographs."""
    return Quality(
        float(np.mean([each.psnr for each in found])), float(np.mean([each.ssim for each in found])), seconds
    )


def check(model: Network, trained_on: tuple[float, float], levels: Sequence[float]) -> None:
    """Refuse what cannot be measured: a model of a fixed size, or noise beyond what it was trained for.

    Raises:
        ConfigError: it is one of these.
    """
    if not hasattr(model, "denoise") or not model.is_free:
        raise ConfigError("whole photographs need a denoiser of free sizes, as photo-denoiser trains one")
    low, high = (round(level * GREY_LEVELS, 1) for level in trained_on)
    for level in levels:
        if not low <= level <= high:
            raise ConfigError(f"noise {level:g} is beyond what the model was trained for: expected {low:g} to {high:g}")


def _read(path: Path, channels: int) -> Floats:
    (image,), _ = image_files.read_all([path], Data(kind="folder", grey=channels == 1))
    return element_types.floats(image)
