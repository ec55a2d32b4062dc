"""Graphs of free height and width: the sizes that they take are found by trying, their tiles are proven."""

from pathlib import Path

import numpy as np
import pytest
import torch
from autoencoder.v1.shapes import Shapes
from torch import nn

from bundle.latents import LatentStatistics
from tests.export.importing.test_importer import RNG, answer, imported, run_import, write
from tests.export.importing.test_source import older_export

FREE = {0: "batch", 2: "height", 3: "width"}


def codec() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, 2, 1))
    decoder = nn.Sequential(
        nn.ConvTranspose2d(2, 4, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Sigmoid()
    )
    return encoder.eval(), decoder.eval()


def nhwc(network: nn.Module, rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(rows.transpose(0, 3, 1, 2).copy())).numpy().transpose(0, 2, 3, 1)


def test_an_autoencoder_of_any_size_has_spatial_latents_and_tiles(tmp_path: Path) -> None:
    encoder, decoder = codec()
    older_export(encoder, torch.zeros(1, 3, 16, 16), tmp_path / "encoder.onnx", FREE)
    older_export(decoder, torch.zeros(1, 2, 4, 4), tmp_path / "decoder.onnx", FREE)
    photos = RNG.integers(0, 256, (100, 16, 20, 3), dtype=np.uint8)
    np.save(tmp_path / "photos.npy", photos)
    files = tmp_path / "encoder.onnx", tmp_path / "decoder.onnx"
    assert run_import(tmp_path, *files, "--reference", tmp_path / "photos.npy") == 0

    folder, model = imported(tmp_path)
    assert list(model.methods) == ["Encode", "Decode", "Reconstruct", "Interpolate"]
    assert (model.height, model.width, model.downsampling, list(model.latent_shape)) == (0, 0, 4, [0, 0, 2])
    assert (model.sizes.multiple, model.sizes.minimum) == (4, 1)
    assert {each.name: each.tiling.exact for each in model.signatures} == dict.fromkeys(
        ("decode", "encode", "reconstruct"), True
    )
    images = RNG.random((2, 20, 36, 3)).astype(np.float32)
    latents = answer(folder, "encode", {"images": images})["latents"]
    assert latents.shape[1:] == Shapes.of(model).latents_of(20, 36) == (5, 9, 2)
    np.testing.assert_allclose(latents, nhwc(encoder, images), atol=1e-5)
    expected = nhwc(decoder, latents)
    np.testing.assert_allclose(answer(folder, "decode", {"latents": latents})["images"], expected, atol=1e-5)
    reconstructed = answer(folder, "reconstruct", {"images": images})["reconstructions"]
    np.testing.assert_allclose(reconstructed, expected, atol=1e-5)
    # Of single positions; distances are those of whole images, which a server compares with them.
    statistics = LatentStatistics.from_bytes((folder / "latents.npz").read_bytes())
    assert (statistics.latent_size, len(statistics.mixture_weights)) == (2, 0)
    codes = nhwc(encoder, photos[1::2, :16, :16] / np.float32(255))
    expected = np.quantile(statistics.distance(codes), statistics.quantile_levels)
    np.testing.assert_allclose(statistics.latent_distance_quantiles, expected, rtol=1e-4)


def test_the_smallest_size_is_found(tmp_path: Path) -> None:
    text = (
        "g (float[b, 1, h, w] x) => (float[b, 1, u, v] y) <int64[8] margins = {0, 0, 10, 10, 0, 0, 10, 10}>"
        '{ p = Pad<mode = "reflect">(x, margins) c = AveragePool<kernel_shape = [21, 21], strides = [1, 1]>(p)'
        " y = Sigmoid(c) }"
    )
    write(tmp_path / "denoiser.onnx", text)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx") == 0
    _, model = imported(tmp_path)
    assert (model.sizes.multiple, model.sizes.minimum) == (1, 11)
    assert model.signatures[0].tiling.halo == 10


def test_a_graph_that_looks_at_the_whole_image_is_served_whole(tmp_path: Path) -> None:
    text = "g (float[b, 1, h, w] x) => (float[b, 1, h, w] y) { m = GlobalAveragePool(x) s = Add(x, m) y = Sigmoid(s) }"
    write(tmp_path / "denoiser.onnx", text)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx") == 0
    _, model = imported(tmp_path)
    assert not model.signatures[0].HasField("tiling")
    assert "GlobalAveragePool" in model.provenance["untileable_denoise"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 1, "expected outputs of one ratio to height and width for images in any multiple up to 64"),
        (("--multiple", "2"), 1, "for images in multiples of 2, got others"),
        (("--image-shape", "8x8x1", "--multiple", "2"), 2, "expected images of (8, 8, 1)"),
    ],
)
def test_outputs_of_no_one_ratio_are_refused(
    options: tuple[str, ...], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "g (float[b, 1, h, w] x) => (float[b, 1, u, v] y) "
    body = "{ c = AveragePool<kernel_shape = [3, 3]>(x) y = Sigmoid(c) }"
    write(tmp_path / "denoiser.onnx", text + body)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", *options) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_multiple_of_one_size_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "denoiser.onnx", "g (float[b, 1, 8, 8] x) => (float[b, 1, 8, 8] y) { y = Sigmoid(x) }")
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", "--multiple", "2") == 2
    assert "expected --multiple and --minimum for free height and width alone" in capsys.readouterr().err
