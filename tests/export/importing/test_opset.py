"""Graphs of older opsets are converted, then judged as all others are."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.importing.test_importer import answer, encoder, floats, imported, run_import, write


def test_an_older_opset_is_converted(tmp_path: Path) -> None:
    text = (
        "g (float[b, 1, 4, 6] x) => (float[b, 1, 8, 12] u, float[b, 1, 4, 6] y) "
        '{ u = Upsample<mode = "nearest">(x, scales) p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(u) '
        "y = Sigmoid(p) }"
    )
    path = write(tmp_path / "denoiser.onnx", text, 9, scales=np.array([1, 1, 2, 2], np.float32))
    model = onnx.load(path)
    del model.graph.output[0]
    onnx.save(model, path)
    assert run_import(tmp_path, path) == 0
    folder, _ = imported(tmp_path)
    assert onnx.load(folder / "denoise.onnx").opset_import[0].version == 13
    images = floats(2, 4, 6, 1)
    expected = 1 / (1 + np.exp(-images))
    np.testing.assert_allclose(answer(folder, "denoise", {"images": images})["denoised"], expected, atol=1e-6)


def test_an_older_opset_that_cannot_be_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(encoder(tmp_path))
    model.opset_import[0].version = 9
    model.graph.node[0].op_type = "Unheard"
    onnx.save(model, tmp_path / "encoder.onnx")
    assert run_import(tmp_path, tmp_path / "encoder.onnx") == 2
    assert "onnx's converter refuses opset 9" in (refused := capsys.readouterr().err)
    assert "export with opset 13 to 23" in refused
