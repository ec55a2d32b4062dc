"""The command line on real checkpoints, in processes of its own where that matters."""

import json
import os
import pickle
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

from bundle import layout, npz
from bundle.detection import HeldOutScores, pack_statistics, unpack_statistics
from bundle.golden import Golden
from bundle.latents import LatentStatistics
from export.__main__ import main
from export.gate import session
from tests.conftest import MadeOnce
from training import checkpoint
from training.config import Architecture
from training.data.dataset import Split
from training.evaluation import latent_statistics
from training.models import autoencoders, initial_weights

CODE = Architecture(family="ae", hidden=(6,), latent_size=4)
NO_CODE = Architecture(family="denoiser", body="conv", channels=(2,))


def write_checkpoint(folder: Path, architecture: Architecture = CODE) -> Path:
    """An untrained checkpoint, as training writes it."""
    model = autoencoders.build(architecture, (8, 8, 1)).eval()
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    images = networks.blobs(128, (8, 8, 1))
    statistics = None
    if isinstance(model, autoencoders.Autoencoder):
        codes = model.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).detach().numpy()
        statistics = latent_statistics.fit(codes, codes, np.ones(len(codes)), 0)
    meta = {
        "name": "tiny",
        "model": checkpoint.describe(architecture, (8, 8, 1), ()),
        "config": {"run": {"seed": 5}},
        "data": {"name": "blobs", "sha256": "ab"},
        "epoch": 3,
        "metrics": {"mse": 0.25, "best": True, "broken": float("nan")},
        "tools": {"torch": "2.13.0"},
    }
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
def repository(trained: Path, made_once: MadeOnce) -> Path:
    """Versions 1 and 2, exported at once by two processes in two folders with two hash seeds."""

    def fill(folder: Path) -> None:
        first, second, target = folder / "first", folder / "second", folder / "models/repository"
        first.mkdir(parents=True)
        shutil.copytree(trained, second / "run/best")
        started = [
            start([str(trained), "--repository", str(target)], first, "1"),
            start(["run", "--repository", os.path.relpath(target, second)], second, "2"),
        ]
        for process in started:
            out, err = process.communicate()
            assert process.returncode == 0, err
            assert err == ""
            assert "passed: structure, weights, numbers, batch invariance, quality" in out
            assert "tiny version" in out

    return made_once("exported", fill) / "models/repository"


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
    images = session.open_session(files["decode.onnx"]).run({"latents": drawn})["images"]
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


def change_npz(file: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        arrays = npz.unpack((folder / file).read_bytes(), file)
        (folder / file).write_bytes(npz.pack(arrays | {name: change(arrays[name])}))

    return apply


def other_latents(folder: Path) -> None:
    """Statistics of codes of three numbers, not four."""
    codes = np.random.default_rng(0).normal(size=(60, 3))
    (folder / "latents.npz").write_bytes(latent_statistics.fit(codes, codes, np.ones(60), 0).to_bytes())


def scores_of_held_out_images(folder: Path) -> None:
    """As a network that detects has them."""
    latents, _ = unpack_statistics((folder / "latents.npz").read_bytes())
    maps = np.zeros((9, 8, 8), np.float32)
    data = pack_statistics(latents, HeldOutScores.of_maps(maps, "max"))
    assert data is not None
    (folder / "latents.npz").write_bytes(data)


DAMAGES = {
    "nothing there": (shutil.rmtree, "no checkpoint in"),
    "half-written": (lambda folder: (folder / "checkpoint.json").unlink(), "no checkpoint in"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "truncated weights": (lambda folder: os.truncate(folder / "model.safetensors", 500), "damaged"),
    "truncated images": (lambda folder: os.truncate(folder / "reference.npz", 500), "damaged"),
    "truncated statistics": (lambda folder: os.truncate(folder / "latents.npz", 500), "latents.npz"),
    "no images": (change_npz("reference.npz", "images", lambda images: images[:0]), "expected uint8 images"),
    "images of another size": (change_npz("reference.npz", "images", lambda images: images[:, 1:]), "uint8 images of"),
    "images in floats": (change_npz("reference.npz", "images", lambda images: images / 255), "got float64"),
    "statistics of other latents": (other_latents, "expected latents of 4, got 3"),
    "scores of a network that detects": (scores_of_held_out_images, "expected no scores of held-out normal images"),
    "a pickle for weights": (lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps([1])), "damaged"),
    "a list for the network": (change_meta(lambda meta: meta.update(model=[])), "damaged"),
    "a word for the data": (change_meta(lambda meta: meta.update(data="x")), "expected an object as data, got 'x'"),
    "another format": (change_meta(lambda meta: meta.update(format_version=99)), "expected checkpoint format 1"),
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
def test_an_impossible_place_is_exit_code_2(
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


def test_a_refused_export_leaves_nothing_and_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Weights at the edge of float32: the float64 network answers, the float32 graph overflows.
    folder = write_checkpoint(tmp_path / "large", NO_CODE)
    change_weights(lambda weights: [each.mul_(1e30) for each in weights.values()])(folder)
    assert main([str(folder), "--repository", str(tmp_path / "models")]) == 1
    err = capsys.readouterr().err
    assert "refused by the check of numbers" in err
    assert "denoise: " in err
    assert not (tmp_path / "models").exists()
