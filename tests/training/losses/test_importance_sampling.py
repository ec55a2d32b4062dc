"""Against probabilistic principal components (Tipping & Bishop 1999): a linear VAE, whose likelihood is known."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from training.config import Loss
from training.losses import objectives
from training.losses.importance_sampling import negative_log_likelihood
from training.losses.objectives import Inputs
from training.losses.terms import Likelihood
from training.models.posterior import Posterior
from training.models.priors import StandardNormalPrior
from training.random_streams import Draws, Purpose, generator

SIGMA, SIZE, PIXELS = 0.5, 2, 4


class LinearVae(nn.Module):
    """x = W z + m + noise with orthogonal columns of W: the posterior is a diagonal Gaussian, here widened or moved."""

    output: Literal["logits", "pixels"] = "pixels"

    def __init__(self, widened: float = 1.0, moved: float = 0.0) -> None:
        super().__init__()
        self.prior, self.likelihood = StandardNormalPrior(), Likelihood("gaussian", SIGMA)
        columns = torch.linalg.qr(torch.randn(PIXELS, SIZE, generator=torch.Generator().manual_seed(1))).Q
        self.weights = nn.Parameter(columns * torch.tensor([1.2, 0.6]))
        self.means = nn.Parameter(torch.linspace(0.2, 0.8, PIXELS))
        squares = self.weights.detach().square().sum(0) + SIGMA**2
        self.encoder = nn.Parameter(self.weights.detach() / squares)
        self.moved = nn.Parameter(torch.full((SIZE,), moved))
        self.log_variances = nn.Parameter((SIGMA**2 / squares).log() + 2 * torch.tensor(widened).log())

    def encode(self, images: Tensor) -> Posterior:
        means = (images.flatten(1) - self.means) @ self.encoder + self.moved
        return Posterior(means, self.log_variances.expand_as(means))

    def decode(self, latents: Tensor) -> Tensor:
        return (latents @ self.weights.T + self.means).unflatten(1, (1, 2, 2))

    def exact(self, images: Tensor) -> Tensor:
        """(N,): log p(x)."""
        covariance = self.weights @ self.weights.T + SIGMA**2 * torch.eye(PIXELS)
        return MultivariateNormal(self.means, covariance).log_prob(images.flatten(1))


def images(count: int = 8) -> Tensor:
    return torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(2))


def draws(count: int, seed: int = 0) -> Draws:
    return Draws.whole_batch(generator(seed, Purpose.TEST), count, torch.device("cpu"))


def test_one_sample_of_the_exact_posterior_gives_the_exact_likelihood() -> None:
    model = LinearVae()
    found = negative_log_likelihood(model, images(), draws(8), samples=1)
    torch.testing.assert_close(found.float(), -model.exact(images()).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("widened", "moved"), [(1.5, 0.0), (1.2, 0.3)])
def test_5000_samples_of_another_posterior_come_within_their_error(widened: float, moved: float) -> None:
    model = LinearVae(widened, moved)
    found = negative_log_likelihood(model, images(), draws(8), samples=5_000)
    torch.testing.assert_close(found.float(), -model.exact(images()).detach(), rtol=0, atol=0.05)
    # One sample is worse by the divergence of the posterior from the exact one.
    assert (negative_log_likelihood(model, images(1).expand(2_000, 1, 2, 2), draws(2_000), 1)).mean() > found[0] + 0.02


def gradients(*, doubly: bool, count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Of the encoder, (count, 2) each image of one, and the mean one of the decoder."""
    model = LinearVae(1.4, 0.3)
    settings = Loss(
        likelihood="gaussian", sigma=SIGMA, importance_samples=4, doubly_reparameterised=doubly, warm_up_epochs=0
    )
    many = images(1).expand(count, 1, 2, 2)
    # A posterior of its own for each image, to see how gradients scatter.
    moved = model.moved.detach().expand(count, SIZE).clone().requires_grad_()
    model.encode = lambda each: Posterior(  # pyright: ignore[reportAttributeAccessIssue]
        ((each.flatten(1) - model.means) @ model.encoder).detach() + moved, model.log_variances.expand(count, SIZE)
    )
    loss = objectives.importance_weighted(model, Inputs(many, None, draws(count, seed), settings, 1.0)).losses["model"]
    encoder, decoder = torch.autograd.grad(loss.sum(), [moved, model.weights])
    return encoder, decoder / count


def test_the_doubly_reparameterised_gradient_is_the_plain_one_on_average_and_scatters_less() -> None:
    count = 40_000
    (plain, of_decoder), (doubly, same) = (gradients(doubly=doubly, count=count) for doubly in (False, True))
    error = ((plain.var(0) + doubly.var(0)) / count).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
    assert plain.mean(0).abs().max() > 20 * error.max()
    assert (doubly.var(0) < plain.var(0)).all()
    torch.testing.assert_close(of_decoder, same)


def test_the_reported_bound_is_that_of_the_plain_objective() -> None:
    settings = Loss(likelihood="gaussian", importance_samples=4)
    plain, doubly = (
        objectives.importance_weighted(LinearVae(1.4), Inputs(images(), None, draws(8), each, 1.0)).measures
        for each in (settings, settings.model_copy(update={"doubly_reparameterised": True}))
    )
    assert all(torch.equal(plain[name], doubly[name]) for name in plain)
