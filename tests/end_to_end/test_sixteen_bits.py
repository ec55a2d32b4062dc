"""Images of 16 bits keep them through training, export and serving."""

from pathlib import Path

import numpy as np
import torch
from autoencoder.v1 import png
from hourglass_client import Client

import export.__main__
import training.__main__
from bundle.golden import Golden
from tests.server.conftest import serving
from training import checkpoint

WHITE = 65_535


def write(folder: Path) -> None:
    """Smooth squares, whose values are of no byte."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8] / 8
    for number in range(20):
        slopes = draws.random((3, 2))
        image = np.stack([0.3 + 0.3 * (a * rows + b * columns) for a, b in slopes], -1)
        (folder / f"{number}.png").write_bytes(png.encode(np.rint(image * WHITE).astype(np.uint16)))


def test_files_of_16_bits_train_and_are_served_without_being_rounded(tmp_path: Path, known_operators: None) -> None:  # noqa: ARG001 (used while it exports)
    write(tmp_path / "images")
    arguments = ["conv-ae", "--data-dir", tmp_path / "images", "--set", "model.channels=[4]", "--epochs", "1"]
    assert training.__main__.main([*map(str, arguments), "--out", str(tmp_path / "run")]) == 0
    trained = checkpoint.load(tmp_path / "run")
    images = trained.reference.images
    assert images.dtype == np.uint16
    assert (images % 257).any()
    assert export.__main__.main([str(tmp_path / "run"), "--repository", str(tmp_path / "models")]) == 0

    pixels = images / np.float32(WHITE)
    golden = Golden.from_bytes((tmp_path / "models" / "conv-ae" / "1" / "golden.npz").read_bytes())
    held_out = golden.of("reconstruct")[0].inputs["images"]
    np.testing.assert_array_equal(held_out, np.resize(pixels, held_out.shape))
    with torch.no_grad():
        codes = trained.model.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        expected = trained.model.images(trained.model.decode(codes)).permute(0, 2, 3, 1).numpy()
    with serving(tmp_path / "models") as served, Client(served.address) as client:
        found = client.reconstruct(images).images
    assert found.dtype == np.uint16
    np.testing.assert_allclose(found, expected * WHITE, atol=1)
