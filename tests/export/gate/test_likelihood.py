"""Graphs of likelihoods and learned priors pass the gate, with every constant, as torch.distributions has it."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch.distributions import Bernoulli, Normal

from bundle.noise import Purpose, normals
from export.gate import gate
from export.gate.golden import golden_vectors
from export.gate.sandbox import Sandbox
from export.graphs import methods
from tests.export.conftest import make_checked
from training.config import Architecture
from training.losses.terms import Likelihood
from training.models import autoencoders
from training.models.autoencoders import VariationalAutoencoder

SHAPE, SIZE, ROWS = (8, 8, 1), 4, 5


def network(likelihood: str, prior: str) -> VariationalAutoencoder:
    architecture = Architecture(
        family="vae", hidden=(16,), latent_size=SIZE, prior=prior, couplings=3, coupling_hidden=(6,)
    )
    made = autoencoders.build(architecture, SHAPE).eval()
    assert isinstance(made, VariationalAutoencoder)
    made.likelihood = Likelihood(likelihood, 0.25)
    with torch.no_grad():
        for index, weights in enumerate(made.parameters()):
            drawn = normals(index, Purpose.SAMPLE, 0, 1, weights.numel()).reshape(tuple(weights.shape))
            weights.copy_(torch.from_numpy(drawn) / math.sqrt(weights.shape[-1]))
    return made


@torch.no_grad()
def expected(model: VariationalAutoencoder, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The same from the definition of each density."""
    pixels = torch.from_numpy(images).double().permute(0, 3, 1, 2) / 255
    exact = model.double()
    posterior = exact.encode(pixels)
    about = Normal(posterior.means, torch.exp(0.5 * posterior.log_variances))
    latents = about.mean + about.stddev * torch.from_numpy(noise).double()
    outputs = exact.decode(latents)
    given = Bernoulli(logits=outputs) if model.likelihood.is_binary else Normal(outputs.sigmoid(), 0.25)
    density = given.log_prob(pixels).flatten(1).sum(1)
    return (density + exact.prior.log_density(latents) - about.log_prob(latents).sum(1)).numpy()


@pytest.mark.parametrize(("likelihood", "prior"), [("bernoulli", "flow"), ("gaussian", "normal")])
def test_a_likelihood_passes_with_all_its_constants(likelihood: str, prior: str, sandbox: Sandbox) -> None:
    model = network(likelihood, prior)
    grey = (normals(1, Purpose.SAMPLE, 0, 40, 64) * 60 + 128).clip(0, 255).astype(np.uint8).reshape(-1, *SHAPE)
    checked = make_checked(model, grey)
    learned = {"prior", "log_density"} if prior == "flow" else set()
    assert checked.graphs.keys() == {"encode", "decode", "reconstruct", "log_weights"} | learned
    golden = golden_vectors(gate.exact_methods(checked.model), grey, None)
    assert golden.sample_case is not None
    assert (golden.sample_case.noise is not None) == bool(learned)
    gate.run_checks(checked, golden, sandbox)
    session = onnxruntime.InferenceSession(checked.graphs["log_weights"], providers=["CPUExecutionProvider"])
    images = np.where(grey[:ROWS] > 127, 255, 0).astype(np.uint8) if likelihood == "bernoulli" else grey[:ROWS]
    noise = normals(2, Purpose.SCORE, 0, ROWS, SIZE)
    (weights,) = session.run(None, {"images": images, "noise": noise})
    np.testing.assert_allclose(weights, expected(model, images, noise), rtol=1e-5, atol=1e-4)
    about = methods.likelihood(model)
    assert (about.distribution, about.binarised) == (likelihood, likelihood == "bernoulli")
    assert about.sigma == (0.25 if likelihood == "gaussian" else 0)


def test_a_learned_density_is_that_of_what_its_prior_draws() -> None:
    model = network("bernoulli", "flow").double()
    noise = torch.from_numpy(normals(3, Purpose.SAMPLE, 0, 3, SIZE)).double()
    for row in noise:
        jacobian = torch.autograd.functional.jacobian(lambda given: model.prior.latents(given[None])[0], row)
        base = Normal(0.0, 1.0).log_prob(row).sum()
        with torch.no_grad():
            density = model.prior.log_density(model.prior.latents(row[None]))[0]
        assert float(density) == pytest.approx(float(base - torch.linalg.slogdet(jacobian)[1]), abs=1e-9)
