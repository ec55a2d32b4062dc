import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import quick
from training import checkpoint
from training.__main__ import main
from training.config import Architecture
from training.errors import CheckpointError, ConfigError, NetworkError
from training.models import autoencoders, own
from training.models.families import Network
from training.models.posterior import Posterior
from training.recipe import parse_config

SOURCE = """
import torch
from torch import nn

class Spatial(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, width, 4, stride=4), nn.ConvTranspose2d(width, 1, 4, stride=4)
    def encode(self, images):
        return self.down(images)
    def decode(self, latents):
        return self.up(latents)

class Vector(nn.Module):
    output = "logits"
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(784, 8), nn.Linear(4, 784)
        self.drop = nn.Dropout(0.5)
    def encode(self, images):
        return self.inner(self.drop(images.flatten(1))).chunk(2, 1)
    def decode(self, latents):
        return self.outer(latents).view(-1, 1, 28, 28)

class Cleaner(nn.Module):
    multiple = 2
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 3, padding=1)
    def denoise(self, images, noise_levels):
        plane = noise_levels.view(-1, 1, 1, 1).expand_as(images)
        return images - self.layer(torch.cat([images, plane], 1))

class Half(Spatial):
    def decode(self, latents):
        return latents

class Odd(Spatial):
    def encode(self, images):
        return self.down(images).sum()

class Neither(nn.Module):
    pass

def function():
    raise SystemExit("called")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "modules" / "written_by_me.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.delitem(sys.modules, "written_by_me", raising=False)
    return path


def built(name: str, *, shape: tuple[int, int, int] = (28, 28, 1), **arguments: object) -> Network:
    return autoencoders.build(Architecture(network=f"written_by_me:{name}", arguments=arguments), shape)


@pytest.mark.usefixtures("package")
def test_methods_decide_the_family() -> None:
    spatial = built("Spatial", width=5)
    assert (spatial.family, spatial.variational, spatial.output) == ("ae", False, "pixels")
    assert (spatial.latent_shape, spatial.downsampling, spatial.multiple) == ((7, 7, 5), 4, 4)
    assert built("Spatial", shape=(0, 0, 1)).latent_shape == (0, 0, 3)
    vector = built("Vector")
    assert (vector.family, vector.variational, vector.output, vector.latent_shape) == ("vae", True, "logits", (4,))
    assert isinstance(vector.encode(torch.zeros(2, 1, 28, 28)), Posterior)
    cleaner = built("Cleaner", shape=(0, 0, 1))
    assert (cleaner.family, cleaner.takes_noise_levels, cleaner.multiple) == ("denoiser", True, 2)
    assert cleaner.latent_shape == ()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing_here:Net", "cannot be imported .no module named 'nothing_here'.: put its folder on PYTHONPATH"),
        ("nothing.here:Net", "cannot be imported .no module named 'nothing.here'"),
        ("written_by_me.inside:Net", "cannot be imported .no module named 'written_by_me.inside'"),
        ("written_by_me..inside:Net", "cannot be imported .no module named"),
        ("written_by_me", "expected model.network as package.module:Class"),
        ("written_by_me:Absent", "no such class 'Absent'"),
        ("written_by_me:function", "something else 'function'"),
        ("written_by_me:Neither", "has neither"),
        ("written_by_me:Half", r"decode: expected images of shape \(2, 1, 28, 28\), got \(2, 3, 7, 7\)"),
        ("written_by_me:Odd", r"encode: expected \(N, D\) or \(N, c, h, w\) for N = 2, got \(\)"),
    ],
)
def test_a_network_that_cannot_be_used_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        autoencoders.build(Architecture(network=name), (28, 28, 1))


@pytest.mark.usefixtures("package")
def test_arguments_that_do_not_fit_and_sizes_that_fail_are_named() -> None:
    with pytest.raises(NetworkError, match=r"cannot be constructed with model.arguments: TypeError.*'depth'"):
        built("Spatial", depth=3)
    with pytest.raises(NetworkError, match=r"Vector.encode fails on \(2, 1, 8, 8\): RuntimeError"):
        built("Vector", shape=(8, 8, 1))


@pytest.mark.parametrize("initialised", [False, True])
def test_its_file_is_found_without_running_the_packages_that_it_is_in(package: Path, initialised: bool) -> None:
    inner = package.parent / f"outer_{initialised}" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent) if initialised else ():
        (folder / "__init__.py").write_text("raise RuntimeError('was run')")
    (inner / "network.py").write_text(SOURCE)
    name = f"outer_{initialised}.inner.network:Spatial"
    assert own.source_sha256(name) == hashlib.sha256(SOURCE.encode()).hexdigest()
    if initialised:
        with pytest.raises(NetworkError, match=r"network:Spatial cannot be imported: RuntimeError: was run"):
            autoencoders.build(Architecture(network=name), (28, 28, 1))
    else:
        assert autoencoders.build(Architecture(network=name), (28, 28, 1)).family == "ae"


def recipe(folder: Path, network: str, loss: str, more: str = "") -> str:
    path = folder / "mine.toml"
    path.write_text(
        f'name = "mine"\nsummary = "Mine"\n[model]\nnetwork = "written_by_me:{network}"\n[loss]\n{loss}\n'
        f"[run]\nepochs = 1\nbatch_size = 256\n{more}"
    )
    return str(path)


def test_it_is_trained_saved_and_loaded_and_a_changed_source_is_refused(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([recipe(tmp_path, "Vector", ""), "--out", str(out)]) == 0
    loaded = checkpoint.load(out)
    assert (loaded.model.family, loaded.model.latent_size) == ("vae", 4)
    assert loaded.latents is not None
    described = loaded.meta["model"]
    assert described["architecture"]["network"] == "written_by_me:Vector"
    assert len(described["source_sha256"]) == 64
    weights = (out / "best" / checkpoint.WEIGHTS).read_bytes()
    assert main([recipe(tmp_path, "Vector", ""), "--out", str(tmp_path / "again")]) == 0
    # Its dropout draws the same too.
    assert (tmp_path / "again" / "best" / checkpoint.WEIGHTS).read_bytes() == weights
    package.write_text(SOURCE + "\n# changed\n")
    capsys.readouterr()
    assert main(["evaluate", str(out)]) == 2
    assert "the source of written_by_me:Vector is not the one that was trained" in capsys.readouterr().err
    package.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be used: written_by_me:Vector cannot be imported"):
        checkpoint.load(out)


@pytest.mark.usefixtures("package")
def test_a_network_of_free_sizes_trains_on_crops(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.random.default_rng(0).integers(0, 256, (12, 16, 24), np.uint8))
    words = ["--data-dir", str(tmp_path / "a.npz"), "--out", str(tmp_path / "run"), "--set", "data.crop=8"]
    loss = 'likelihood = "gaussian"\nnoise = 0.2\nnoise_low = 0.0'
    assert main([recipe(tmp_path, "Cleaner", loss), *words]) == 0
    loaded = checkpoint.load(tmp_path / "run").model
    assert (loaded.image_shape, loaded.noise_level) == ((0, 0, 1), (0.0, 0.2, 0.0))


@pytest.mark.usefixtures("package")
def test_a_network_without_a_posterior_has_no_mutual_information_gap_and_says_so(tmp_path: Path) -> None:
    asked = recipe(tmp_path, "Spatial", 'likelihood = "gaussian"', "[evaluation]\ndisentanglement = true\n")
    assert main([asked, "--out", str(tmp_path / "run")]) == 0
    noted = checkpoint.load(tmp_path / "run").meta["notes"]
    assert "mutual information gap: left out, because the model is not variational" in noted


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("network", "loss", "more", "message"),
    [
        ("Spatial", "", "", "returns pixels, whose likelihood is gaussian"),
        ("Cleaner", 'likelihood = "gaussian"', "", "given noise levels needs some"),
        ("Cleaner", 'likelihood = "gaussian"\nnoise = 0.1\nnoise_low = 0.2', "", "noise_low of at most loss.noise"),
        ("Spatial", 'likelihood = "gaussian"\nbeta = 2.0', "", "loss.beta: no effect on written_by_me:Spatial"),
        ("Absent", "", "", "no such class"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(
    network: str, loss: str, more: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([recipe(tmp_path, network, loss, more), "--out", str(tmp_path / "run")]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_settings_of_our_own_networks_are_refused_beside_it() -> None:
    with pytest.raises(Exception, match=r"model.family has no effect on model.network.*model.hidden"):
        quick("vae", "model.network=a:B")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"run": {"epochs": 1, "pixel_means": True}}, "run.pixel_means has no effect on model.network"),
        ({"loss": {"beta": 0, "total_correlation": 4}}, "loss.total_correlation has no effect with loss.beta 0"),
        (
            {"loss": {"importance_samples": 5, "total_correlation": 4}},
            "loss.total_correlation has no effect with loss.importance_samples above 1",
        ),
        ({"evaluation": {"nll_samples": 5}}, "evaluation.nll_samples needs .* loss.likelihood bernoulli"),
    ],
)
def test_settings_that_need_a_network_of_ours_are_refused(settings: dict[str, Any], message: str) -> None:
    own = {
        "name": "mine",
        "summary": "Mine",
        "model": {"network": "a:B"},
        "loss": {"likelihood": "gaussian"},
        "run": {"epochs": 1},
    }
    with pytest.raises(ConfigError, match=message):
        parse_config({**own, **settings})
