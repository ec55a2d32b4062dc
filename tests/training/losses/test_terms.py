import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from training.losses import terms


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def logits(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def test_bernoulli_is_a_sum_over_pixels_of_each_image() -> None:
    expected = -Bernoulli(logits=logits().double(), validate_args=False).log_prob(images().double()).sum((1, 2, 3))
    torch.testing.assert_close(terms.bernoulli_nll(logits(), images()).double(), expected, rtol=1e-5, atol=1e-5)


def test_bernoulli_stays_finite_at_extreme_logits() -> None:
    extreme = torch.full((1, 1, 2, 2), 1e4)
    assert terms.bernoulli_nll(extreme, torch.zeros_like(extreme)).item() == pytest.approx(4e4)
    assert terms.bernoulli_nll(extreme, torch.ones_like(extreme)).item() == 0


def test_gaussian_is_the_density_of_the_normal_distribution() -> None:
    expected = -Normal(logits().sigmoid().double(), 0.3).log_prob(images().double()).sum((1, 2, 3))
    torch.testing.assert_close(terms.gaussian_nll(logits(), images(), 0.3).double(), expected, rtol=1e-5, atol=1e-4)


def test_a_fitted_gaussian_is_the_most_likely_one_of_each_image_and_linear_in_psnr() -> None:
    pixels, errors = images(), torch.tensor([0.02, 0.3]).view(2, 1, 1, 1)
    seen = pixels[:2] + errors
    found = terms.gaussian_nll_of_pixels(seen, pixels[:2], 0)
    fixed = [terms.gaussian_nll_of_pixels(seen, pixels[:2], float(error)) for error in errors]
    torch.testing.assert_close(found, torch.stack([fixed[0][0], fixed[1][1]]), rtol=1e-3, atol=0.1)
    nats = pixels[0].numel() * math.log(0.3 / 0.02)
    assert float(found[1] - found[0]) == pytest.approx(nats, rel=1e-3)
    assert terms.gaussian_nll_of_pixels(pixels, pixels, 0).isfinite().all()


def test_kl_is_summed_over_nothing_and_agrees_with_torch() -> None:
    means, log_variances = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(2))
    expected = kl_divergence(Normal(means, (0.5 * log_variances).exp()), Normal(torch.zeros(6, 4), torch.ones(6, 4)))
    torch.testing.assert_close(terms.kl_to_standard_normal(means, log_variances), expected)


def test_kl_is_never_negative_and_zero_at_the_prior() -> None:
    assert (terms.kl_to_standard_normal(torch.randn(99, 3), torch.randn(99, 3)) >= 0).all()
    assert terms.kl_to_standard_normal(torch.zeros(1, 3), torch.zeros(1, 3)).abs().max() == 0


def test_free_bits_cost_nothing_to_learn() -> None:
    kl = torch.tensor([[0.1, 2.0]], requires_grad=True)
    total = terms.with_free_bits(kl, 0.5)
    (gradient,) = torch.autograd.grad(total.sum(), kl)
    assert total.tolist() == [2.5]
    assert gradient.tolist() == [[0.0, 1.0]]


def test_log_normal_is_a_joint_density() -> None:
    values, means, log_variances = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(3))
    expected = Independent(Normal(means, (0.5 * log_variances).exp()), 1).log_prob(values)
    torch.testing.assert_close(terms.log_normal(values, means, log_variances), expected)


def test_log_mean_exp_of_large_weights() -> None:
    weights = torch.tensor([[-1000.0], [-1000.0 + math.log(3)]])
    assert terms.log_mean_exp(weights).item() == pytest.approx(-1000 + math.log(2))


def test_total_correlation_is_exact_for_gaussian_latents_and_zero_for_independent_ones() -> None:
    source, correlation, deviation = torch.Generator().manual_seed(0), 0.9, 0.5
    plain = torch.randn(2000, 2, generator=source)
    for mixed in (0.0, correlation):
        means = torch.stack([plain[:, 0], mixed * plain[:, 0] + math.sqrt(1 - mixed**2) * plain[:, 1]], 1)
        log_variances = torch.full_like(means, 2 * math.log(deviation))
        latents = means + deviation * torch.randn(2000, 2, generator=source)
        # The average of the posteriors is a Gaussian, of variances 1 + deviation^2 and this covariance.
        exact = -0.5 * math.log(1 - (mixed / (1 + deviation**2)) ** 2)
        found = terms.total_correlation(latents, means, log_variances).mean()
        assert float(found) == pytest.approx(exact, abs=0.04)


def test_from_a_batch_total_correlation_is_too_high_and_falls_as_it_grows() -> None:
    source, deviation, found = torch.Generator().manual_seed(0), 0.2, []
    for count in (128, 1000):
        means = torch.randn(count, 20, generator=source)
        latents = means + deviation * torch.randn(count, 20, generator=source)
        log_variances = torch.full_like(means, 2 * math.log(deviation))
        found.append(float(terms.total_correlation(latents, means, log_variances).mean()))
    assert found == pytest.approx([27, 25.6], abs=0.6)
