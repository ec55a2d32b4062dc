"""Score and a learned prior, trained, exported and served on both transports, against PyTorch with the same noise."""

import json
import math

import numpy as np
import pytest
import torch
from hourglass_client import Client
from hourglass_client.cli.main import main

from bundle.density.likelihood import binarised, sample_noise
from bundle.latents import standard
from examples.local_server import LocalServer
from tests.end_to_end.conftest import RECIPES, Journey
from tests.end_to_end.test_methods import channels_first, channels_last

# The first test here waits for six models to be trained and exported.
pytestmark = pytest.mark.timeout(1200)
SEED, SAMPLES = 11, 40


@torch.no_grad()
def log_likelihoods(journey: Journey, family: str, images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) uint8 to (N,): the bounds of the training side, in float64 from its float32 weights."""
    model = journey.checkpoint(family).model
    pixels = channels_first(binarised(images, SEED, 0))
    found: list[float] = []
    for index in range(len(images)):
        noise = torch.from_numpy(sample_noise(SEED, index, 0, SAMPLES, model.latent_size))
        weights = model.log_weights(pixels[index : index + 1].expand(SAMPLES, -1, -1, -1), noise)
        found.append(float(weights.double().logsumexp(0)) - math.log(SAMPLES))
    return np.array(found)


@pytest.mark.parametrize("family", ["vae", "multitask", "flow"])
def test_score_is_training_s_estimate(client: Client, journey: Journey, images: np.ndarray, family: str) -> None:
    answer = client.score(images, model=RECIPES[family], samples=SAMPLES, seed=SEED)
    assert answer.seed == SEED
    wanted = log_likelihoods(journey, family, images)
    np.testing.assert_array_less(np.abs(answer.log_likelihoods - wanted), 1e-4 + 1e-5 * np.abs(wanted))
    other = client.score(images, model=RECIPES[family], samples=SAMPLES, seed=SEED + 1)
    assert (other.log_likelihoods != answer.log_likelihoods).all()


def test_sample_goes_through_the_learned_prior(client: Client, journey: Journey) -> None:
    model = journey.checkpoint("flow").model
    answer = client.sample(5, model="vae-flow", seed=3, temperature=0.8, include_latents=True, image_format="float32")
    noise = torch.from_numpy(standard(3, 0, 5, model.latent_size, 0.8))
    with torch.no_grad():
        latents = model.prior.latents(noise)
        pictures = channels_last(model.decode(latents))
    assert not torch.equal(latents, noise)
    np.testing.assert_allclose(answer.latents, latents.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer.images, pictures, rtol=1e-4, atol=1e-5)


def test_the_command_line_prints_nats(
    server: LocalServer,
    client: Client,
    images: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path_factory.mktemp("scored") / "digits.npy"
    np.save(path, images)
    given = ["score", str(path), "--model", "vae-flow", "--seed", "5", "--samples", "9", "--address", server.address]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = client.score(images, model="vae-flow", seed=5, samples=9).log_likelihoods
    np.testing.assert_array_equal(np.float32([row["nats"] for row in found["items"]]), wanted)
    assert found["mean_nats"] == pytest.approx(float(wanted.astype(float).mean()))
