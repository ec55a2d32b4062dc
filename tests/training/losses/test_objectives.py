import pytest
import torch

from training.config import Architecture, Loss
from training.losses import objectives, terms
from training.losses.importance_sampling import negative_log_likelihood
from training.losses.objectives import Inputs
from training.models import autoencoders, initial_weights
from training.models.autoencoders import Denoiser, MultitaskVae, VariationalAutoencoder
from training.random_streams import Draws, Purpose, generator

CPU = torch.device("cpu")
SHAPE = (4, 4, 1)


def made(**settings: object) -> VariationalAutoencoder:
    settings = {"family": "vae", "hidden": [8], "latent_size": 2, **settings}
    model = autoencoders.build(Architecture.model_validate(settings), SHAPE, ("a", "b", "c"))
    initial_weights.initialise(model, torch.Generator().manual_seed(3))
    assert isinstance(model, VariationalAutoencoder)
    return model


def images(count: int = 6) -> torch.Tensor:
    return (torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def noise(count: int = 6, seed: int = 0) -> Draws:
    return Draws.whole_batch(generator(seed, Purpose.STEP), count, CPU)


def test_the_bound_is_reconstruction_plus_weighted_kl() -> None:
    found = objectives.evaluate(made(), images(), None, noise(), Loss(), kl_weight=0.25)
    expected = found.measures["reconstruction"] + 0.25 * found.measures["kl"]
    torch.testing.assert_close(found.losses["model"], expected)


def test_the_kl_is_reported_without_free_bits_and_weight() -> None:
    # PyTorch-VAE logs the KL with the wrong sign and another weight than it trains with.
    plain = objectives.evaluate(made(), images(), None, noise(), Loss(), kl_weight=1.0).measures["kl"]
    free = objectives.evaluate(made(), images(), None, noise(), Loss(free_bits=9.0), kl_weight=0.1).measures
    assert torch.equal(plain, free["kl"])
    assert (plain >= 0).all()


def test_the_total_correlation_has_a_weight_of_its_own_within_the_kl() -> None:
    plain, weighted = (
        objectives.evaluate(made(), images(), None, noise(), Loss(total_correlation=weight), kl_weight=0.5)
        for weight in (1.0, 4.0)
    )
    more = 0.5 * 3 * weighted.measures["total_correlation"]
    torch.testing.assert_close(weighted.losses["model"], plain.losses["model"] + more)
    assert "total_correlation" not in plain.measures


def given(many: torch.Tensor, samples: int = 1, seed: int = 0) -> Inputs:
    return Inputs(many, None, noise(len(many), seed), Loss(importance_samples=samples), kl_weight=1.0)


def test_an_estimated_kl_below_0_counts_as_it_is() -> None:
    model = autoencoders.build(Architecture(family="vae", hidden=(8,), latent_size=6, prior="flow"), (4, 4, 1))
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    draws = Draws.whole_batch(generator(0, Purpose.TEST), 64, torch.device("cpu"))
    found = objectives.variational(model, Inputs(torch.zeros(64, 1, 4, 4), None, draws, Loss(), 0.5))
    assert (found.measures["kl"] < -0.1).any()
    torch.testing.assert_close(
        found.losses["model"], found.measures["reconstruction"] + 0.5 * found.measures["kl"], rtol=0, atol=1e-5
    )


def test_one_importance_sample_is_the_bound_in_expectation() -> None:
    model, many = made(), images(1).repeat(4000, 1, 1, 1)
    elbo = objectives.variational(model, given(many)).losses["model"].mean()
    weighted = objectives.importance_weighted(model, given(many, seed=1))
    assert weighted.losses["model"].mean().item() == pytest.approx(elbo.item(), abs=0.05)


def test_more_importance_samples_tighten_the_bound_towards_the_likelihood() -> None:
    model, many = made(), images(1).repeat(500, 1, 1, 1)
    bounds = [objectives.importance_weighted(model, given(many, k)).losses["model"].mean() for k in (1, 5, 50)]
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[2] > exact_nll(model, images(1)) - 0.05


def exact_nll(model: VariationalAutoencoder, image: torch.Tensor) -> float:
    """By quadrature over the latent plane, which no sampling error touches."""
    line = torch.linspace(-7, 7, 281, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    prior = -0.5 * grid.square().sum(1) - torch.log(torch.tensor(2 * torch.pi))
    with torch.no_grad():
        logits = model.double().decode(grid)
    likelihood = -terms.bernoulli_nll(logits, image.double().expand_as(logits))
    model.float()
    return -(likelihood + prior).logsumexp(0).item() - 2 * torch.log(line[1] - line[0]).item()


def test_the_estimated_likelihood_is_the_integral() -> None:
    model = made()
    estimate = negative_log_likelihood(model, images(1), noise(1), samples=20_000)
    assert estimate.item() == pytest.approx(exact_nll(model, images(1)), abs=0.02)


def test_the_estimate_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    whole_estimate = negative_log_likelihood(model, images(2), noise(2), samples=20_000)
    monkeypatch.setattr("training.losses.importance_sampling.ROWS_PER_DECODE", 1_000)
    pieces = negative_log_likelihood(model, images(2), noise(2), samples=20_000)
    torch.testing.assert_close(pieces, whole_estimate, rtol=0, atol=0.1)


def test_multitask_adds_the_cross_entropy_of_the_classes() -> None:
    model = made(family="multitask")
    with torch.no_grad():
        # A posterior of hardly any width: the draw that is classified is the mean.
        model.encoder.layers[-1].bias[2:] = -14
        model.encoder.layers[-1].weight[2:] = 0
    assert isinstance(model, MultitaskVae)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    found = objectives.evaluate(model, images(), labels, noise(), Loss(classification=3.0), kl_weight=1.0)
    means, _ = model.encode(images())
    expected = torch.nn.functional.cross_entropy(model.classify(means), labels)
    torch.testing.assert_close(found.measures["classification"].mean(), expected, rtol=0.01, atol=0)
    rest = found.measures["reconstruction"] + found.measures["kl"]
    torch.testing.assert_close(found.losses["model"], rest + 3 * found.measures["classification"])


def test_noise_for_the_classifier_leaves_the_bound_and_the_accuracy_alone() -> None:
    model, labels = made(family="multitask"), torch.tensor([0, 1, 2, 0, 1, 2])
    plain, noised = (
        objectives.evaluate(model, images(), labels, noise(), Loss(classifier_noise=sigma), kl_weight=1.0).measures
        for sigma in (0.0, 0.5)
    )
    for name in ("reconstruction", "kl", "accuracy"):
        torch.testing.assert_close(noised[name], plain[name])
    assert not torch.equal(noised["classification"], plain["classification"])


def test_the_classifier_learns_from_clean_images_and_from_noisy_ones() -> None:
    # From noisy ones alone, it took 3.5 % of clean images for others, of which their neighbours in the code knew half.
    model, labels = made(family="multitask"), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        model.encoder.layers[-1].bias[2:] = -14
        model.encoder.layers[-1].weight[2:] = 0
    assert isinstance(model, MultitaskVae)
    loss = Loss(classifier_noise=3.0)
    found = objectives.evaluate(model, images(), labels, noise(), loss, kl_weight=1.0).measures["classification"]
    draws = noise()
    draws.normal((2,))  # that of the bound
    noised = objectives.with_input_noise(images(), draws, loss.classifier_noise)
    clean, other = (
        torch.nn.functional.cross_entropy(model.classify(model.encode(each)[0]), labels, reduction="none")
        for each in (images(), noised)
    )
    assert (clean - other).abs().max() > 0.1
    torch.testing.assert_close(found, (clean + other) / 2, rtol=0.01, atol=0.01)


def test_the_classifier_sees_images_that_are_right_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    # Clipped noise would brighten the background: a classifier trained so took 40 % of clean images for others.
    model = made(family="multitask")
    seen: list[torch.Tensor] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda each: seen.append(each) or encode(each))
    black = torch.zeros(500, 1, 4, 4)
    labels = torch.zeros(500, dtype=torch.int64)
    objectives.evaluate(model, black, labels, noise(500), Loss(classifier_noise=0.5), kl_weight=1.0)
    clean, noised = seen
    assert torch.equal(clean, black)
    assert abs(noised.mean().item()) < 0.01
    assert noised.std().item() == pytest.approx(0.5, rel=0.05)


def test_the_encoder_of_a_vae_sees_noise_in_training_and_is_judged_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model, loss = made(family="vae"), Loss(encoder_noise=0.5)
    with torch.no_grad():
        # A posterior of hardly any width: what is decoded is the mean.
        model.encoder.layers[-1].bias[2:] = -14
        model.encoder.layers[-1].weight[2:] = 0
    seen: list[torch.Tensor] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda each: seen.append(each) or encode(each))
    found, judged, plain = (
        objectives.evaluate(model, images(), None, noise(), each, kl_weight=1.0) for each in (loss, loss.judged, Loss())
    )
    assert (seen[0] - images()).std().item() == pytest.approx(0.5, rel=0.2)
    # What is to be reconstructed is the image without the noise.
    expected = terms.nll(loss, model.decode(encode(seen[0])[0]), images())
    torch.testing.assert_close(found.measures["reconstruction"], expected, rtol=0.01, atol=0.01)
    assert torch.equal(seen[1], images())
    assert torch.equal(judged.losses["model"], plain.losses["model"])


def denoiser(**settings: object) -> Denoiser:
    model = autoencoders.build(
        Architecture.model_validate({"family": "denoiser", "channels": [4], **settings}), (8, 8, 1)
    )
    assert isinstance(model, Denoiser)
    return model


def test_noise_is_clipped_and_fresh_for_each_step() -> None:
    grey, model = torch.full((2, 1, 8, 8), 0.5), denoiser(body="conv")
    (one,), (other,) = (objectives.noisy(model, grey, noise(2, seed), Loss(noise=0.5)) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert (one.min(), one.max()) == (0, 1)


def test_a_residual_denoiser_sees_noise_as_it_is_and_learns_from_a_range_of_levels() -> None:
    grey, model = torch.full((512, 1, 8, 8), 0.5), denoiser(body="residual", noise_level_input=True)
    seen, levels = objectives.noisy(model, grey, noise(512), Loss(noise=0.5, noise_low=0.1))
    assert seen.min() < 0
    assert seen.max() > 1
    assert 0.1 <= levels.min() < 0.15
    assert 0.45 < levels.max() <= 0.5
    torch.testing.assert_close((seen - grey).flatten(1).std(1), levels, rtol=0.35, atol=0)
    _, fixed = objectives.noisy(model, grey, noise(512), Loss(noise=0.5))
    assert fixed.unique().tolist() == [0.5]
    assert len(objectives.noisy(denoiser(body="residual"), grey, noise(512), Loss(noise=0.5))) == 1


def test_binarised_pixels_have_the_grey_value_as_their_mean() -> None:
    grey = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(20_000, 1, 1, 1)
    drawn = objectives.binarised(grey, noise(20_000))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), grey[0], atol=0.02, rtol=0)


def test_draws_do_not_depend_on_how_many_processes_share_the_batch() -> None:
    together = noise(6).normal((3,))
    parts = [Draws(generator(0, Purpose.STEP), 6, start, start + 3, CPU).normal((3,)) for start in (0, 3)]
    assert torch.equal(torch.cat(parts), together)
