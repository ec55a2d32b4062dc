"""Networks that were trained on other pixels than 0 … 1, imported: the scaling goes into the graph."""

from pathlib import Path

import numpy as np
import pytest

from tests.export.importing.test_importer import RNG, answer, imported, run_import, write

DENOISER = "g (float[b, 3, 4, 4] x) => (float[b, 3, 4, 4] y) { y = Tanh(x) }"


def test_pixels_from_minus_one_to_one(tmp_path: Path) -> None:
    write(tmp_path / "denoiser.onnx", DENOISER)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", "--range", "-1:1") == 0
    folder, model = imported(tmp_path)
    assert (model.provenance["mean"], model.provenance["std"]) == ("0.5", "0.5")
    images = RNG.random((2, 4, 4, 3)).astype(np.float32)
    expected = (np.tanh(images.astype(np.float64) * 2 - 1) + 1) / 2
    np.testing.assert_allclose(answer(folder, "denoise", {"images": images})["denoised"], expected, atol=1e-6)


def test_a_mean_and_a_deviation_for_each_channel(tmp_path: Path) -> None:
    text = "g (float[b, 3, 4, 4] x) => (float[b, 48] z) { z = Flatten(x) }"
    write(tmp_path / "encoder.onnx", text)
    channels = "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"
    assert run_import(tmp_path, tmp_path / "encoder.onnx", *channels) == 0
    folder, _ = imported(tmp_path)
    images = RNG.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    expected = (images / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    got = answer(folder, "encode", {"images": images})["latents"]
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2).reshape(3, -1), rtol=1e-5, atol=1e-6)


def test_what_is_beyond_0_and_1_is_cut_only_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "denoiser.onnx", "g (float[b, 3, 4, 4] x) => (float[b, 3, 4, 4] y) { y = Add(x, x) }")
    scaled = tmp_path / "denoiser.onnx", "--range", "-1:1"
    assert run_import(tmp_path, *scaled) == 1
    assert "expected pixels in 0 … 1, got -0.5" in (refused := capsys.readouterr().err)
    assert "--clip" in refused
    assert run_import(tmp_path, *scaled, "--clip") == 0
    folder, _ = imported(tmp_path)
    images = RNG.random((2, 4, 4, 3)).astype(np.float32)
    expected = np.clip(2 * images - 0.5, 0, 1)
    np.testing.assert_allclose(answer(folder, "denoise", {"images": images})["denoised"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--range", "-1:1", "--mean", "0.5"), "expected --range, or --mean and --std, got both"),
        (("--mean", "0.5,0.5"), "expected one mean and one std, or one for each of 3 channels, got 2 and 1"),
        (("--std", "0"), "expected standard deviations above 0"),
    ],
)
def test_scalings_that_are_refused(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "denoiser.onnx", DENOISER)
    assert run_import(tmp_path, tmp_path / "denoiser.onnx", *options) == 2
    assert message in capsys.readouterr().err
