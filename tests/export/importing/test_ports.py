"""Detectors of other toolchains: which output is the map, and thresholds from reference images."""

from pathlib import Path

import numpy as np
import pytest

from tests.export.importing.test_importer import RNG, answer, floats, imported, run_import, write

BOTH = "float[n] score, float[n, 4, 6] map"


def detector(folder: Path, outputs: str = BOTH, last: str = "Abs") -> Path:
    """Brightness of grey images, and their means; with a mask, as detectors often have one."""
    body = f"{{ m = {last}(x) score = ReduceMean <axes = [1, 2, 3], keepdims = 0> (m) map = Squeeze(m, axis)"
    text = f"g (float[n, 1, 4, 6] x) => ({outputs}, bool[n, 4, 6] mask)<int64[1] axis = {{1}}, float half = {{0.5}}> "
    return write(folder / "detector.onnx", f"{text} {body} mask = Greater(map, half) }}")


def reference(folder: Path, count: int = 20, side: int = 0) -> tuple[str, Path]:
    images = RNG.integers(0, 256, (count, side or 4, side or 6), dtype=np.uint8)
    np.save(folder / "normal.npy", images)
    return "--reference", folder / "normal.npy"


@pytest.mark.parametrize("score", ["max", "mean"])
def test_a_detector_is_calibrated_on_the_reference_images(
    score: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_import(tmp_path, detector(tmp_path), *reference(tmp_path), "--detection-score", score) == 0
    assert "thresholds are those of 20 reference images, taken for normal" in capsys.readouterr().out
    folder, model = imported(tmp_path)
    assert (model.family, list(model.methods), model.detection.score) == ("detector", ["Detect"], score)
    images = np.load(tmp_path / "normal.npy")[..., np.newaxis]
    got = answer(folder, "detect", {"images": images})
    maps = (images / 255).astype(np.float32)
    np.testing.assert_allclose(got["maps"], maps, atol=1e-6)
    np.testing.assert_allclose(got["scores"], getattr(maps, score)((1, 2, 3)), atol=1e-6)
    # Of 21 places of a new score, 1 and 2 are above.
    np.testing.assert_allclose(model.detection.thresholds, np.sort(got["scores"])[[19, 18]], atol=1e-6)


def test_a_detector_of_free_sizes_is_tiled_and_calibrated_on_whole_images(tmp_path: Path) -> None:
    text = "g (float[n, 1, h, w] x) => (float[n, 1, h, w] map) "
    body = "{ f = Conv <pads = [1, 1, 1, 1]> (x, w) map = Abs(f) }"
    file = write(tmp_path / "detect.onnx", text + body, w=np.abs(floats(1, 1, 3, 3)))
    # Beyond what the gate cuts out of reference images.
    assert run_import(tmp_path, file, *reference(tmp_path, 9, 260)) == 0
    _, model = imported(tmp_path)
    (signature,) = model.signatures
    assert [spec.name for spec in signature.outputs] == ["maps"]
    assert (signature.tiling.halo, signature.tiling.exact) == (1, True)
    assert (model.detection.calibrated_height, model.detection.calibrated_on) == (260, 9)


@pytest.mark.parametrize(
    ("outputs", "last", "count", "sentence"),
    [
        (BOTH, "Abs", 0, "expected --reference for detect, normal images"),
        (BOTH, "Abs", 8, "expected at least 9 reference images to calibrate detect on"),
        ("float[n] score", "Abs", 9, "detect: expected one output of floats with a number for each pixel, its map"),
        ("float[n, 1, 4, 6] m, float[n, 4, 6] map", "Abs", 9, "expected one output of floats with a number"),
        (BOTH, "Neg", 9, "expected numbers from 0, larger where stranger, got -0"),
    ],
)
def test_detectors_that_cannot_be_calibrated_are_refused(
    outputs: str, last: str, count: int, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = reference(tmp_path, count) if count else ()
    assert run_import(tmp_path, detector(tmp_path, outputs, last), *more) in {1, 2}
    assert sentence in capsys.readouterr().err
    assert not [*tmp_path.glob("models/*")]
