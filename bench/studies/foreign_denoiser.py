"""PSNR of FFDNet's published weights, from a plain module to a bundle, on the test sets of its paper.

    python -m bench.studies.foreign_denoiser FOLDER REPOSITORY

FOLDER holds `bsd68/`, `cbsd68/`, `ffdnet-gray.npz` and `ffdnet-color.npz`: the images and weights of the repositories
of DnCNN and FFDNet, which name no licence and so are not part of this one. Noise is drawn by `bundle.noise` with seed 0
and not clipped; PSNR is that of images rounded to 8 bits, averaged over a set.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from autoencoder.v1.shapes import Shapes, pad
from numpy.typing import NDArray

import export.__main__
from bundle.images.decoder import ImageReader, Limits
from bundle.layout import read_model
from bundle.noise import Purpose, normals

Floats = NDArray[np.float32]
Denoise = Callable[[Floats, float], Floats]
"""(H, W, C) and a noise level to (H, W, C)."""
BUILD = "examples.your_own_network.ffdnet:FFDNet"


@dataclass(frozen=True)
class Foreign:
    """A published network: its weights, its arguments, its test set, and noise levels of 255 with its PSNR in dB."""

    name: str
    weights: str
    arguments: str
    images: str
    channels: int
    psnr: dict[int, float]


NETWORKS = (
    Foreign("ffdnet-grey", "ffdnet-gray.npz", "{}", "bsd68", 1, {25: 29.19, 50: 26.29}),
    Foreign(
        "ffdnet-colour",
        "ffdnet-color.npz",
        '{"channels": 3, "depth": 12, "width": 96}',
        "cbsd68",
        3,
        {25: 31.21},
    ),
)


def export_network(network: Foreign, folder: Path, repository: Path) -> int:
    """Export it by the command that a user would give; its exit code."""
    given = ["module", BUILD, "--weights", folder / network.weights, "--arguments", network.arguments]
    sizes = ["--image-shape", "free", "--multiple", "2", "--minimum", "16", "--noise-level", "0:0.2942"]
    place = ["--reference", folder / network.images, "--repository", repository, "--name", network.name]
    return export.__main__.main([str(each) for each in (*given, *sizes, *place)])


def mean_psnr(network: Foreign, folder: Path, level: int, denoise: Denoise) -> float:
    """In dB, over the network's test set, at a noise level of 255."""
    found = [
        _psnr(denoise(clean + np.float32(level / 255) * noise, level / 255), clean)
        for clean, noise in _images(folder / network.images, network.channels)
    ]
    return float(np.mean(found))


def by_onnxruntime(bundle: Path) -> Denoise:
    """Run a bundle's graph, without a server."""
    import onnxruntime  # noqa: PLC0415 (a second to import)

    shapes = Shapes.of(read_model(bundle))
    session = onnxruntime.InferenceSession(bundle / "denoise.onnx", providers=["CPUExecutionProvider"])

    def denoise(image: Floats, level: float) -> Floats:
        height, width = image.shape[:2]
        padded = pad(image[None], shapes.padded(height, width))
        levels = np.array([level], np.float32)
        (answer,) = session.run(None, {"images": padded, "noise_levels": levels})
        return answer[0, :height, :width]

    return denoise


def _images(folder: Path, channels: int) -> Iterator[tuple[Floats, Floats]]:
    """Images (H, W, C) in 0 … 1 in the order of their names, and standard normal noise for each."""
    for row, path in enumerate(sorted(folder.iterdir())):
        clean = ImageReader(path.read_bytes(), Limits()).decode(channels).pixels.astype(np.float32) / np.float32(255)
        yield clean, normals(0, Purpose.SAMPLE, row, 1, clean.size).reshape(clean.shape)


def _psnr(found: Floats, clean: Floats) -> float:
    rounded = np.rint(np.clip(found, 0, 1) * 255) / 255
    return float(-10 * np.log10(np.mean((rounded.astype(np.float64) - clean) ** 2)))


def main() -> int:
    """Export both networks and print a row for each noise level."""
    folder, repository = map(Path, sys.argv[1:])
    for network in NETWORKS:
        if code := export_network(network, folder, repository):
            return code
        denoise = by_onnxruntime(repository / network.name / "1")
        for level, published in network.psnr.items():
            found = mean_psnr(network, folder, level, denoise)
            print(f"{network.name} at {level}: {found:.3f} dB, {published} expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
