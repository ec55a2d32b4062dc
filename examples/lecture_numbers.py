"""Computations for the pictures: principal axes, projection, peak signal-to-noise ratio."""

import numpy as np
from numpy.typing import NDArray


def principal(latents: NDArray[np.float32], count: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(count, D) leading axes and (D,) mean."""
    middle = latents.mean(axis=0, dtype=np.float64)
    return np.linalg.svd(latents - middle, full_matrices=False)[2][:count], middle


def project(latents: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """Latents (N, D) to (N, 2), and the kind of its axes."""
    if latents.shape[1] == 2:  # noqa: PLR2004 (a plane already)
        return latents.astype(np.float64), "latent"
    axes, middle = principal(latents)
    return (latents - middle) @ axes.T, "principal axis"


def dissimilar_pairs(images: NDArray[np.uint8], count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Pairs of very different images."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return [
        (images[index], images[np.argmax(((flat - flat[index]) ** 2).sum(axis=1))])
        for index in range(min(count, len(images)))
    ]


def psnr(clean: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean of each image's peak signal-to-noise ratio, in dB."""
    errors = ((clean - other) ** 2).mean(axis=(1, 2, 3))
    return float(np.mean(-10 * np.log10(np.maximum(errors, 1e-10))))
