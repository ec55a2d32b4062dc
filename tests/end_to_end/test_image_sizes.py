"""Convolutional models of images that cannot be halved twice: trained, exported through the gate, served."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hourglass_client import Client

import export.__main__
import training.__main__
from examples.local_server import running
from training import checkpoint

# Colour and not square, with a margin on both sides; grey, odd.
SHAPES = {"conv-ae": (30, 27, 3), "vae-gan": (30, 27, 3), "deconv-ae": (13, 13, 1), "denoiser": (13, 13, 1)}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def write_images(path: Path, shape: tuple[int, int, int]) -> None:
    """Bright bars of any height on black: what the lower right edge holds matters."""
    draws = np.random.default_rng(0)
    images = np.zeros((200, *shape), np.uint8)
    for image, top in zip(images, draws.integers(0, shape[0], 200), strict=True):
        image[top:] = draws.integers(100, 256, shape[2])
    np.savez(path, images=images)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for recipe, shape in SHAPES.items():
        path = folder / f"{recipe}.npz"
        write_images(path, shape)
        words = [recipe, "--data", "npz", "--data-dir", str(path), "--epochs", "2", "--out", str(folder / recipe)]
        assert training.__main__.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def client(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    repository = tmp_path_factory.mktemp("models") / "repository"
    for recipe in SHAPES:
        assert export.__main__.main([str(runs / recipe), "--repository", str(repository)]) == 0
    log = tmp_path_factory.mktemp("server") / "server.log"
    with running(repository, log) as server, Client(server.address) as connected:
        yield connected


@pytest.mark.parametrize("recipe", SHAPES)
@torch.no_grad()
def test_the_server_answers_what_the_network_does(recipe: str, runs: Path, client: Client) -> None:
    trained = checkpoint.load(runs / recipe)
    model, images = trained.model, trained.reference.images[:5]
    assert images.shape[1:] == SHAPES[recipe]
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255
    if recipe == "denoiser":
        got, logits = client.denoise(images, model=recipe, image_format="float32"), model.denoise(pixels)
    else:
        encoded = model.encode(pixels)
        latents = encoded[0] if isinstance(encoded, tuple) else encoded
        got, logits = client.reconstruct(images, model=recipe, image_format="float32"), model.decode(latents)
    expected = logits.sigmoid().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(got.images, expected, rtol=2e-4, atol=2e-5, strict=True)
