import shutil
from pathlib import Path

import bundles
import pytest
from autoencoder.v1.model_pb2 import Model

from export.__main__ import main


def differences(first: Path, second: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["diff", str(first), str(second)]) == 0
    return capsys.readouterr().out.splitlines()


def test_equal_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundles.copied("fc-ae", tmp_path)
    bundles.change_model(folder, lambda model: setattr(model, "version", "2"))
    assert differences(bundles.GOLDEN / "fc-ae/1", folder, capsys) == ["no differences except name and version"]


def test_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundles.copied("fc-ae", tmp_path)
    bundles.change_graph(folder, "decode.onnx", bundles.scale_weight("model.decoder.bias", 1.5))
    bundles.change_model(folder, lambda model: (model.metrics.update({"mse": 0.5}), model.labels.append("new")))
    lines = differences(bundles.GOLDEN / "fc-ae/1", folder, capsys)
    assert "metrics.mse: none -> 0.5" in lines
    assert "labels: none -> new" in lines
    assert any(line.startswith("decode: weights model.decoder.bias: differ by up to") for line in lines)
    assert any(line.startswith("decode: golden images differ by up to 0.") for line in lines)
    assert not any(line.startswith(("encode", "reconstruct", "golden.npz", "latents.npz")) for line in lines)


def test_other_sizes_and_tiles(free_version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(free_version, free_version.with_name("2"))
    bundles.change_model(other, change_sizes)
    assert differences(free_version, other, capsys) == [
        "noise_level.maximum: 0.25 -> 0.5",
        "sizes.minimum: 1 -> 8",
        "denoise: tiling halo: 10 multiple: 2 tile: 64 exact: true -> halo: 10 multiple: 2 tile: 64",
    ]


def test_other_thresholds(detecting_version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(detecting_version, detecting_version.with_name("2"))
    bundles.change_model(other, lambda model: setattr(model.detection, "map_low", 0.25))
    (line,) = differences(detecting_version, other, capsys)
    assert line.startswith("detection.map_low: 0.")
    assert line.endswith(" -> 0.25")


def change_sizes(model: Model) -> None:
    model.sizes.minimum, model.noise_level.maximum, model.signatures[0].tiling.exact = 8, 0.5, False


def test_other_families(capsys: pytest.CaptureFixture[str]) -> None:
    lines = differences(bundles.GOLDEN / "fc-ae/1", bundles.GOLDEN / "denoiser/1", capsys)
    assert "encode: removed" in lines
    assert "denoise: added" in lines
    assert "family: ae -> denoiser" in lines
    assert "golden.npz: changed" in lines
    assert "latents.npz: removed" in lines


def test_other_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    lines = differences(bundles.GOLDEN / "vae/1", bundles.GOLDEN / "multitask/1", capsys)
    assert "encode: other inputs or outputs" in lines
    assert "decode: weights model.decoder.2.weight: (64, 8) -> (192, 8)" in lines


def test_bad_input_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 2
    assert "model.json" in capsys.readouterr().err
