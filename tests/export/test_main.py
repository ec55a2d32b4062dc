"""The command line on real checkpoints, in processes of its own where that matters."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bundle import layout
from bundle.golden import Golden
from bundle.latents import LatentStatistics
from export import runtime
from export.__main__ import main
from training import checkpoint, latents, models
from training.config import Architecture
from training.data import Split

ARCHITECTURE = Architecture(family="ae", hidden=(6,), latent_size=4)


def write_checkpoint(folder: Path) -> Path:
    """An untrained checkpoint, as training writes it."""
    model = models.build(ARCHITECTURE, (8, 8, 1)).eval()
    models.initialise(model, torch.Generator().manual_seed(0))
    images = networks.blobs(128, (8, 8, 1))
    codes = model.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).detach().numpy()
    meta = {
        "name": "tiny",
        "model": checkpoint.describe(ARCHITECTURE, (8, 8, 1), ()),
        "config": {"run": {"seed": 5}},
        "data": {"name": "blobs", "sha256": "ab"},
        "epoch": 3,
        "metrics": {"mse": 0.25, "best": True, "broken": float("nan")},
        "tools": {"torch": "2.13.0"},
    }
    statistics = latents.fit(codes, codes, np.ones(len(codes)), 0)
    checkpoint.write(folder, checkpoint.files(model.state_dict(), meta, Split(images, None), statistics))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("trained") / "tiny")


def start(arguments: list[str], folder: Path, seed: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "export", *arguments]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=-1, stderr=-1)


@pytest.fixture(scope="session")
def repository(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2, exported at once by two processes in two folders with two hash seeds."""
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    shutil.copytree(trained, second / "run/best")
    target = tmp_path_factory.mktemp("models") / "repository"
    started = [
        start([str(trained), "--repository", str(target)], first, "1"),
        start(["run", "--repository", os.path.relpath(target, second)], second, "2"),
    ]
    for process in started:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert err == ""
        assert "passed: structure, weights, numbers, batch invariance, quality" in out
        assert "tiny version" in out
    return target


@pytest.mark.slow
def test_two_exports_at_once_are_the_same_bytes_in_two_versions(repository: Path) -> None:
    assert layout.versions(repository, "tiny") == [1, 2]
    models_ = [layout.read_model(repository / "tiny" / version) for version in ("1", "2")]
    files = [layout.read_files(repository / "tiny" / model.version, model) for model in models_]
    assert files[0] == files[1]
    models_[1].version = "1"
    assert layout.encode_model(models_[1]) == layout.encode_model(models_[0])
    assert models_[0] == models_[1]


@pytest.mark.slow
def test_what_a_bundle_says(repository: Path) -> None:
    model = layout.read_model(repository / "tiny/1")
    assert (model.name, model.family, model.latent_size) == ("tiny", "ae", 4)
    assert (model.height, model.width, model.channels) == (8, 8, 1)
    assert list(model.methods) == ["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"]
    assert [each.name for each in model.signatures] == ["decode", "encode", "reconstruct"]
    assert [file.path for file in model.files] == [
        "decode.onnx",
        "encode.onnx",
        "golden.npz",
        "latents.npz",
        "reconstruct.onnx",
    ]
    assert dict(model.metrics) == {"mse": 0.25}
    assert model.provenance["recipe"] == "tiny"
    assert model.provenance["seed"] == "5"
    assert len(model.provenance["weights_sha256"]) == 64
    for signature in model.signatures:
        assert 0 < signature.parity_max_abs_error < 1e-5
        assert signature.batch_invariant
        assert signature.golden_tolerance == 0
        assert list(signature.batch_buckets) == [1, 2, 4, 8, 16, 32, 64, 128, 256]


@pytest.mark.slow
def test_nothing_of_this_machine_is_hashed(repository: Path) -> None:
    model = layout.read_model(repository / "tiny/1")
    contents = layout.read_files(repository / "tiny/1", model) | {"model.json": layout.encode_model(model)}
    root = str(Path(__file__).resolve().parents[2]).encode()
    for name, data in contents.items():
        assert root not in data, name
        assert str(repository).encode() not in data, name
        assert os.uname().nodename.encode() not in data, name


@pytest.mark.slow
def test_the_sample_of_a_bundle_is_what_its_graphs_and_statistics_give(repository: Path) -> None:
    files = layout.read_files(repository / "tiny/1", layout.read_model(repository / "tiny/1"))
    case = Golden.from_bytes(files["golden.npz"]).sample_case
    assert case is not None
    statistics = LatentStatistics.from_bytes(files["latents.npz"])
    drawn = statistics.sample(case.seed, 0, case.count, case.temperature, "mixture")
    np.testing.assert_array_equal(drawn, case.latents)
    images = runtime.open_session(files["decode.onnx"]).run({"latents": drawn})["images"]
    np.testing.assert_allclose(images, case.images, atol=1e-5)


@pytest.mark.slow
def test_the_report(repository: Path) -> None:
    report = json.loads((repository / "tiny/1/report.json").read_text())
    assert report["passed"][0] == "structure"
    assert report["machine"]["cores"] >= 1
    assert report["graphs"]["encode"]["batch_buckets"][-1]["rows"] == 256
    assert all(bucket["best_ms"] > 0 for bucket in report["graphs"]["encode"]["batch_buckets"])
    kinds = {trial["kind"] for trial in report["graphs"]["encode"]["trials"]}
    assert kinds == {"held-out images", "uniform noise", "zeros", "ones", "extremes"}


def change_meta(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        meta = json.loads((folder / "checkpoint.json").read_text())
        change(meta)
        (folder / "checkpoint.json").write_text(json.dumps(meta))

    return apply


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return apply


def swap_tensors(weights: dict[str, torch.Tensor]) -> None:
    weights["stranger.bias"] = weights.pop("decoder.layers.0.bias")


DAMAGES = {
    "nothing there": (shutil.rmtree, "no checkpoint in"),
    "half-written": (lambda folder: (folder / "checkpoint.json").unlink(), "no checkpoint in"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda folder: os.truncate(folder / "model.safetensors", 500), "damaged"),
    "truncated images": (lambda folder: os.truncate(folder / "reference.npz", 500), "damaged"),
    "truncated statistics": (lambda folder: os.truncate(folder / "latents.npz", 500), "latents.npz"),
    "another format": (change_meta(lambda meta: meta.update(format_version=99)), "format 1 wanted, 99 came"),
    "no JSON": (lambda folder: (folder / "checkpoint.json").write_text("{"), "cannot be read"),
    "a missing tensor": (change_weights(swap_tensors), "decoder.layers.0.bias"),
    "an extra tensor": (change_weights(swap_tensors), "stranger.bias"),
    "NaN": (change_weights(lambda weights: weights["decoder.layers.0.bias"].fill_(torch.nan)), "decoder.layers.0.bias"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_sentence_and_exit_code_2(
    damage: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply, message = DAMAGES[damage]
    apply(shutil.copytree(trained, tmp_path / "copy"))
    assert main([str(tmp_path / "copy"), "--repository", str(tmp_path / "models")]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("export: ")
    assert "Traceback" not in err
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "Upper Case"], "model name"),
        (["--version", "0"], "from 1"),
        (["--version", "7"], "version 7 of tiny exists"),
    ],
)
def test_a_place_that_cannot_be_is_exit_code_2(
    arguments: list[str], message: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny/7").mkdir(parents=True)
    assert main([str(trained), "--repository", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["x"], ["x", "--repository"], ["x", "--repository", "y", "--version", "new"]]
)
def test_bad_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m export" in capsys.readouterr().err


def test_a_refused_export_leaves_nothing_and_is_exit_code_1(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Weights at the edge of float32: the float64 network answers, the float32 graph overflows.
    folder = shutil.copytree(trained, tmp_path / "copy")
    change_weights(lambda weights: [each.mul_(1e30) for each in weights.values()])(folder)
    assert main([str(folder), "--repository", str(tmp_path / "models")]) == 1
    err = capsys.readouterr().err
    assert "refused by the check of numbers" in err
    assert "encode: " in err
    assert not (tmp_path / "models").exists()
