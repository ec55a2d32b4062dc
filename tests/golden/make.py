"""Makes the tiny model repository that the tests of server and client use.

    python tests/golden/make.py [DIR]

Written to the folder of this file unless DIR is given. Same tools, same bytes. report.json, which holds times and the
machine, is left out.
"""

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "export")]

import networks  # noqa: E402 (found through the path above)

from bundle.latents import LatentStatistics  # noqa: E402
from bundle.layout import REPORT_FILE  # noqa: E402
from export.exporter import build_and_check, write  # noqa: E402
from export.gate.inputs import encode  # noqa: E402
from export.gate.sandbox import Sandbox  # noqa: E402
from export.publication.publish import Place  # noqa: E402
from training.checkpoint import Checkpoint  # noqa: E402
from training.data.dataset import Split  # noqa: E402
from training.evaluation import latent_statistics as training_latents  # noqa: E402

IMAGES = 256
MODELS = {
    "fc-ae": lambda: networks.Autoencoder((8, 8, 1)),
    "vae": lambda: networks.VariationalAutoencoder((8, 8, 1)),
    "denoiser": lambda: networks.Denoiser((8, 8, 1)),
    "multitask": lambda: networks.Multitask((8, 8, 3)),
}


def make(repository: Path) -> None:
    """Writes version 1 of every model; existing versions are replaced."""
    for name, network in MODELS.items():
        shutil.rmtree(repository / name, ignore_errors=True)
        checkpoint = untrained(name, networks.weighted(network()))
        with Sandbox() as sandbox:
            draft, result = build_and_check(checkpoint, digest(checkpoint.model), "float32", "cpu", sandbox)
        done = write(draft, result, Place(repository, name, 1), 0.0)
        (done.folder / REPORT_FILE).unlink()


def untrained(name: str, network: networks.Network) -> Checkpoint:
    """A checkpoint as training would leave it, without training."""
    images = networks.blobs(IMAGES, network.image_shape)
    meta = {"name": name, "epoch": 0, "data": {"name": "blobs"}, "metrics": {"images": IMAGES}}
    return Checkpoint(network, meta, Split(images, None), statistics(network, images) if network.latent_size else None)


def statistics(network: networks.Network, images: np.ndarray) -> LatentStatistics:
    """Of the codes of the images; a VAE also has an attribute, so that something serves Edit."""
    codes = encode(network, images)
    with torch.no_grad():
        logits = network.decode(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy()
    errors = ((1 / (1 + np.exp(-logits)) - images / 255) ** 2).mean(axis=(1, 2, 3))
    fitted = training_latents.fit(codes, codes, errors, seed=0)
    if network.family != "vae":
        return fitted
    brightness = images.mean(axis=(1, 2, 3)) / 255
    slope = np.linalg.lstsq(codes - codes.mean(axis=0), brightness - brightness.mean(), rcond=None)[0]
    return dataclasses.replace(
        fitted,
        attribute_names=np.array(["brightness"]),
        attribute_directions=(slope * brightness.std() / (slope @ slope))[None],
        attribute_means=np.array([brightness.mean()]),
        attribute_spreads=np.array([brightness.std()]),
    )


def digest(network: torch.nn.Module) -> str:
    """SHA-256 of the weights in the order of their names."""
    tensors = network.state_dict()
    return hashlib.sha256(b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))).hexdigest()


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
