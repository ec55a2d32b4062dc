"""A new family is one class and one recipe: training, export and the server's loader take it from there."""

from pathlib import Path

import pytest
from hourglass_client import Client

import export.__main__
from examples.local_server import running
from tests.training.conftest import QUICK
from training import checkpoint
from training.errors import ConfigError
from training.losses import objectives
from training.losses.objectives import Inputs, Outcome
from training.models.autoencoders import VariationalAutoencoder
from training.models.families import families
from training.recipe import load_recipe
from training.train import train

RECIPE = """
name = "shrinking"
summary = "A VAE whose codes cost extra"

[model]
family = "shrinking"
hidden = [16]
latent_size = 3

[loss]
beta = 0.5

[run]
epochs = 1
"""


class Shrinking(VariationalAutoencoder):
    """A VAE with a penalty on the length of its codes."""

    family = "shrinking"
    loss_settings = frozenset({"likelihood", "beta"})

    def objective(self, given: Inputs) -> Outcome:
        """The bound and the squared length of the mean codes, (N,)."""
        bound = objectives.variational(self, given)
        length = self.encode(given.images).means.square().sum(1)
        total = bound.losses["model"] + length
        return Outcome({"model": total}, {**bound.measures, "length": length, "loss": total})


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "shrinking.toml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_a_new_family_is_trained_exported_and_served(recipe: Path, tmp_path: Path) -> None:
    config = load_recipe(str(recipe), "digits", [*QUICK, "run.epochs=1"])
    best = train(config, tmp_path / "run")
    metrics = checkpoint.read_meta(best)["metrics"]
    assert metrics["validation_length"] > 0
    assert {"elbo_loss", "active_units", "frechet_distance"} <= metrics.keys()
    assert (tmp_path / "run" / "kl.png").is_file()
    models = tmp_path / "models"
    assert export.__main__.main([str(tmp_path / "run"), "--repository", str(models)]) == 0
    with (
        running(models, tmp_path / "server.log") as server,
        Client(server.address) as client,
    ):
        (model,) = client.list_models()
        assert (model.name, model.family) == ("shrinking", "shrinking")
        assert {"Encode", "Decode", "Reconstruct", "Sample", "Interpolate"} <= set(model.methods)


def test_its_settings_are_checked_like_those_of_others(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss.free_bits has no effect on the family shrinking"):
        load_recipe(str(recipe), "digits", ["loss.free_bits=1"])


def test_an_unknown_family_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"model.family: expected one of ae, denoiser, .*; got 'gan'"):
        load_recipe("vae", "digits", ["model.family=gan"])


def test_a_class_without_a_name_of_its_own_is_no_family() -> None:
    before = families()
    type("Unnamed", (VariationalAutoencoder,), {})
    assert families() == before
