import pytest
import torch
from torch.distributions import Normal

from training.config import Architecture
from training.errors import ConfigError
from training.models import autoencoders, initial_weights
from training.models.posterior import Posterior
from training.models.priors import FlowPrior, StandardNormalPrior

SIZES = [2, 5, 40]


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow(size: int, couplings: int = 4) -> FlowPrior:
    """Far from N(0, I)."""
    made = FlowPrior(size, couplings, (8, 8)).double()
    with torch.no_grad():
        for position, weights in enumerate(made.parameters()):
            weights.copy_(0.4 * normals(*weights.shape, seed=position))
    return made


@pytest.mark.parametrize("size", SIZES)
def test_latents_and_noise_are_each_others_inverse(size: int) -> None:
    prior, noise = flow(size), normals(16, size).double()
    latents = prior.latents(noise)
    assert (latents - noise).abs().max() > 0.5
    torch.testing.assert_close(prior.noise(latents)[0], noise, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_density_is_that_of_noise_times_the_jacobian(size: int) -> None:
    prior, latents = flow(size), normals(size).double()
    jacobian = torch.autograd.functional.jacobian(lambda each: prior.noise(each)[0], latents)
    noise, _ = prior.noise(latents)
    expected = Normal(0, 1).log_prob(noise).sum() + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(prior.log_density(latents[None])[0], expected)


def test_the_density_integrates_to_one() -> None:
    line = torch.linspace(-14, 14, 281, dtype=torch.float64)
    total = flow(2, couplings=2).log_density(torch.cartesian_prod(line, line)).exp().sum() * (line[1] - line[0]) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_a_flow_begins_as_the_standard_normal() -> None:
    architecture = Architecture(family="vae", hidden=(8,), latent_size=6, prior="flow")
    model = autoencoders.build(architecture, (4, 4, 1))
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    latents = normals(7, 6)
    expected = Normal(0, 1).log_prob(latents).sum(1)
    for prior in (model.prior, StandardNormalPrior()):
        torch.testing.assert_close(prior.log_density(latents), expected)
        assert prior.latents(latents).sort(1).values.equal(latents.sort(1).values)


def test_the_divergence_is_right_on_average() -> None:
    posterior = Posterior(normals(1, 5), normals(1, 5, seed=1))
    many = Posterior(*(each.expand(40_000, 5) for each in posterior))
    model = FlowPrior(5, 2, (4,))
    for coupling in model.couplings:
        coupling.start()  # pyright: ignore[reportCallIssue]
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.zeros_(layer.bias)
    estimates = model.divergence(many, normals(40_000, 5, seed=2))
    assert estimates.shape == (40_000, 1)
    assert estimates.mean().item() == pytest.approx(posterior.kl().sum().item(), abs=0.06)


def test_a_code_of_one_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs model.latent_size of at least 2, got 1"):
        FlowPrior(1, 8, (8,))
