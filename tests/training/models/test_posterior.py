import pytest
import torch
from torch.distributions import Normal, kl_divergence

from training.models.posterior import Posterior

POSTERIOR = Posterior(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([[0.5, -1.0], [2.0, 0.0]]))
REFERENCE = Normal(POSTERIOR.means, (POSTERIOR.log_variances / 2).exp())


def test_it_is_still_a_pair() -> None:
    means, log_variances = POSTERIOR
    assert isinstance(POSTERIOR, tuple)
    assert means is POSTERIOR.means
    assert log_variances is POSTERIOR.log_variances


def test_a_sample_is_the_mean_plus_scaled_noise() -> None:
    normals = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(POSTERIOR.sample(normals), REFERENCE.mean + REFERENCE.stddev * normals)


@pytest.mark.parametrize("count", [1, 5])
def test_several_samples_an_image_come_with_their_densities(count: int) -> None:
    latents = POSTERIOR.sample(torch.randn(2, count, 2, generator=torch.Generator().manual_seed(0)))
    assert latents.shape == (2, count, 2)
    expected = REFERENCE.log_prob(latents.transpose(0, 1)).sum(2).T
    torch.testing.assert_close(POSTERIOR.log_prob(latents), expected)


def test_the_entropy_is_that_of_torch() -> None:
    torch.testing.assert_close(POSTERIOR.entropy(), REFERENCE.entropy().sum(1))


def test_the_divergence_is_that_of_torch() -> None:
    expected = kl_divergence(REFERENCE, Normal(torch.zeros(2, 2), torch.ones(2, 2)))
    torch.testing.assert_close(POSTERIOR.kl(), expected)
