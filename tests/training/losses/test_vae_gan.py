from pathlib import Path

import pytest
import torch

from tests.training.conftest import quick, train_alone
from training import checkpoint
from training.config import Architecture, Loss
from training.losses import objectives
from training.models import autoencoders, initial_weights
from training.models.autoencoders import VaeGan
from training.random_streams import Draws, Purpose, generator

CPU = torch.device("cpu")


@pytest.fixture
def model() -> VaeGan:
    architecture = Architecture(family="vae-gan", hidden=(20,), latent_size=3)
    made = autoencoders.build(architecture, (28, 28, 1))
    initial_weights.initialise(made, generator(0, Purpose.WEIGHTS))
    assert isinstance(made, VaeGan)
    return made


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def noise() -> Draws:
    return Draws.whole_batch(generator(0, Purpose.STEP), 8, CPU)


def gradient_of(model: VaeGan, images: torch.Tensor, player: str, loss: Loss) -> list[torch.Tensor]:
    outcome = objectives.evaluate(model, images, None, noise(), loss, kl_weight=1.0)
    return list(torch.autograd.grad(outcome.losses[player].mean(), model.parameter_groups()[player]))


def test_the_encoder_gets_no_adversarial_gradient(model: VaeGan, images: torch.Tensor) -> None:
    before = gradient_of(model, images, "encoder", Loss())
    # The verdict is the adversary's alone: whatever it says must not reach the encoder.
    with torch.no_grad():
        for parameter in model.discriminator.verdict.parameters():
            parameter.mul_(-50).add_(3)
    after = gradient_of(model, images, "encoder", Loss(adversarial=1e3))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert any(gradient.abs().max() > 0 for gradient in before)


def test_the_decoder_does_get_it(model: VaeGan, images: torch.Tensor) -> None:
    without = gradient_of(model, images, "decoder", Loss(adversarial=0))
    with_verdict = gradient_of(model, images, "decoder", Loss(adversarial=1))
    assert any(not torch.equal(one, other) for one, other in zip(without, with_verdict, strict=True))


def test_the_discriminator_does_not_shrink_its_features(model: VaeGan, images: torch.Tensor) -> None:
    # Its loss is the verdict alone: the same whatever the weight of the features' distance to others.
    outcome = objectives.evaluate(model, images, None, noise(), Loss(), kl_weight=1.0)
    torch.testing.assert_close(outcome.losses["discriminator"], outcome.measures["discriminator_loss"])


def test_all_three_parts_move(tmp_path: Path) -> None:
    # diffusers PR #10605: the discriminator's loss is computed and never applied.
    train_alone(quick("vae-gan", "run.epochs=1", "run.ema_decay=0"), tmp_path)
    trained = checkpoint.load(tmp_path).model
    untrained = autoencoders.build(quick("vae-gan").model, (28, 28, 1))
    initial_weights.initialise(untrained, generator(0, Purpose.WEIGHTS))
    for part in ("encoder", "decoder", "discriminator"):
        pairs = zip(getattr(trained, part).parameters(), getattr(untrained, part).parameters(), strict=True)
        assert all(not torch.equal(after, before) for after, before in pairs), part


def test_the_penalty_is_the_squared_slope_at_real_images(model: VaeGan, images: torch.Tensor) -> None:
    plain = objectives.evaluate(model, images, None, noise(), Loss(), kl_weight=1.0).losses["discriminator"]
    penalised = objectives.evaluate(model, images, None, noise(), Loss(gradient_penalty=2.0), kl_weight=1.0)
    step = 1e-3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rise = model.discriminator(images + step)[1] - model.discriminator(images - step)[1]
    slopes = (penalised.losses["discriminator"] - plain).detach()
    # The directional slope is at most the norm of the slope (Cauchy-Schwarz).
    assert (slopes >= (rise / 2 / step.flatten(1).norm(dim=1)).square() - 1e-6).all()
    assert (slopes > 0).all()
