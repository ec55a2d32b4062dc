import pytest
import torch

from training.config import Architecture
from training.errors import ConfigError
from training.losses.importance_sampling import log_densities
from training.losses.terms import Likelihood
from training.models import autoencoders, initial_weights
from training.models.autoencoders import VariationalAutoencoder
from training.models.layers import Crop

# The last two cannot be halved twice.
GREY, COLOUR, ODD, TINY = SHAPES = (28, 28, 1), (16, 24, 3), (30, 27, 3), (5, 3, 1)


def images(shape: autoencoders.ImageShape, count: int = 3) -> torch.Tensor:
    height, width, channels = shape
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def made(shape: autoencoders.ImageShape, **settings: object) -> autoencoders.Network:
    model = autoencoders.build(Architecture.model_validate(settings), shape)
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


AUTOENCODERS = [
    {"family": "ae", "latent_size": 5, "hidden": [9, 7]},
    {"family": "ae", "latent_size": 5, "code_activation": "relu", "activation": "tanh", "hidden": [9]},
    {"family": "ae", "latent_size": 5, "activation": "gated", "hidden": [9]},
    {"family": "ae", "body": "conv", "channels": [4, 6]},
    {"family": "ae", "body": "conv", "channels": [4, 6], "latent_size": 5, "upsampling": "transposed"},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", AUTOENCODERS)
def test_an_autoencoder_keeps_the_shape_and_flattens_its_code(settings: dict, shape: autoencoders.ImageShape) -> None:
    model = made(shape, **settings)
    latents = model.encode(images(shape))
    assert latents.shape == (3, model.latent_size)
    assert model.decode(latents).shape == images(shape).shape
    assert (model.family, model.image_shape) == ("ae", shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("body", [{"hidden": [9]}, {"body": "conv", "channels": [4, 6]}])
def test_a_vae_answers_means_and_log_variances(body: dict, shape: autoencoders.ImageShape) -> None:
    model = made(shape, family="vae", latent_size=5, **body)
    means, log_variances = model.encode(images(shape))
    assert means.shape == log_variances.shape == (3, 5)
    assert model.decode(means).shape == images(shape).shape


def test_log_variances_stay_within_bounds_whatever_comes() -> None:
    model = made(GREY, family="vae", latent_size=5)
    _, log_variances = model.encode(images(GREY) * 1e6)
    assert log_variances.exp().isfinite().all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
def test_a_denoiser_keeps_the_shape(upsampling: str, shape: autoencoders.ImageShape) -> None:
    model = made(shape, family="denoiser", body="conv", channels=[4, 6], upsampling=upsampling)
    assert model.denoise(images(shape)).shape == images(shape).shape
    assert model.latent_size == 0


def test_encoding_is_deterministic() -> None:
    # pythae #126, lightning-bolts #566: their encoders sample.
    model = made(GREY, family="vae", latent_size=5, hidden=[9])
    assert torch.equal(model.encode(images(GREY))[0], model.encode(images(GREY))[0])


def test_the_network_of_the_blog_has_its_number_of_parameters() -> None:
    conv = made(GREY, family="ae", body="conv", channels=[32, 32])
    dense = made(GREY, family="ae", latent_size=32)
    assert sum(weight.numel() for weight in conv.parameters()) == 28_353
    assert sum(weight.numel() for weight in dense.parameters()) == 50_992


def test_the_generator_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    one = made(GREY, family="vae", latent_size=5, hidden=[9]).state_dict()
    torch.manual_seed(2)
    other = made(GREY, family="vae", latent_size=5, hidden=[9]).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("body", [{"hidden": [9]}, {"body": "conv", "channels": [4, 6]}])
def test_a_code_can_be_spread_over_the_first_layer_of_the_decoder(body: dict) -> None:
    model = autoencoders.build(Architecture.model_validate({"family": "vae", "latent_size": 2, **body}), GREY)
    assert not isinstance(model, autoencoders.Denoiser)
    initial_weights.initialise(model, torch.Generator().manual_seed(0), code_spread=4.0)
    first = next(layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear))
    # The variance of w.z over z from N(0, I) is |w|^2; averaged over the units it is the square of the spread.
    assert first.weight.square().sum(1).mean().sqrt().item() == pytest.approx(4, rel=0.4)
    assert 1 < first.bias.std().item() < 4
    assert first.bias.abs().max().item() <= 4
    others = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear) and layer is not first]
    assert all(not layer.bias.any() for layer in others)


@pytest.mark.parametrize("family", ["ae", "denoiser"])
def test_images_that_cannot_be_halved_get_a_margin_that_changes_nothing_else(family: str) -> None:
    odd = made(ODD, family=family, body="conv", channels=[4, 4])
    even = made((32, 28, 3), family=family, body="conv", channels=[4, 4])
    seen, padded = images(ODD), torch.zeros(3, 3, 32, 28)
    padded[:, :, :30, :27] = seen

    def through(model: autoencoders.Network, pixels: torch.Tensor) -> torch.Tensor:
        return model.denoise(pixels) if isinstance(model, autoencoders.Denoiser) else model.decode(model.encode(pixels))

    torch.testing.assert_close(through(odd, seen), through(even, padded)[:, :, :30, :27])


def test_images_that_can_be_halved_get_no_layer_more() -> None:
    layers = {type(layer) for layer in made(GREY, family="ae", body="conv", channels=[4, 4]).modules()}
    assert not layers & {torch.nn.ZeroPad2d, Crop}
    assert {torch.nn.ZeroPad2d, Crop} <= {type(m) for m in made(ODD, family="ae", body="conv", channels=[4]).modules()}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "ae"}, "model.latent_size"),
        ({"family": "vae", "body": "conv", "channels": [4]}, "model.latent_size"),
        ({"family": "denoiser"}, "model.channels"),
        ({"family": "vae", "latent_size": 2, "log_variances": (3, -8)}, "rising bounds, got 3 and -8"),
    ],
)
def test_an_unfit_architecture_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(GREY, **settings)


def test_log_weights_are_what_the_estimate_sums() -> None:
    architecture = Architecture(family="vae", hidden=(8,), latent_size=3, prior="flow", couplings=2)
    model = autoencoders.build(architecture, (4, 4, 1))
    assert isinstance(model, VariationalAutoencoder)
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    images, noise = (torch.rand(2, 1, 4, 4, generator=source) > 0.5).float(), torch.randn(2, 64, 3, generator=source)
    posterior = model.encode(images)
    parts = log_densities(model, images, posterior.sample(noise), posterior, model.likelihood)
    expected = parts[0] + parts[1] - parts[2]
    found = model.log_weights(images.repeat_interleave(64, 0), noise.flatten(0, 1)).unflatten(0, (2, 64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_a_vae_of_fixed_size_with_a_vector_code_can_score_and_others_cannot() -> None:
    dense = {"hidden": (8,), "latent_size": 2}
    residual = {"body": "residual", "channels": (4, 4), "prior": "flow", "latent_size": 2, "outputs": "logits"}
    for settings, shape, scores in (
        ({"family": "vae", **dense}, (4, 4, 1), True),
        ({"family": "vae", **residual}, (8, 8, 1), True),
        ({"family": "vae", "body": "residual", "channels": (4, 4), "latent_channels": 2}, (0, 0, 1), False),
        ({"family": "vae-gan", **dense}, (8, 8, 1), False),
        ({"family": "ae", **dense}, (4, 4, 1), False),
    ):
        model = autoencoders.build(Architecture.model_validate(settings), shape)
        assert model.can_score == scores, settings
        assert model.output == ("pixels" if model.is_free else "logits")


def test_a_sigma_that_is_fitted_to_each_image_scores_none() -> None:
    model = made(GREY, family="vae", latent_size=2)
    for likelihood, scores in ((Likelihood("gaussian", 0.2), True), (Likelihood("gaussian", 0.0), False)):
        model.likelihood = likelihood
        assert model.can_score == scores


def test_a_decoder_may_start_at_the_mean_image() -> None:
    model = autoencoders.build(Architecture(family="ae", hidden=(8,), latent_size=2), (4, 4, 1))
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    means = torch.linspace(0, 1, 16).view(1, 4, 4)
    initial_weights.start_at(model, means)
    begun = model.decode(torch.zeros(1, 2)).sigmoid()[0]
    # Pixels that are always black begin a little lighter.
    torch.testing.assert_close(begun, means.clamp(1e-3, 1 - 1e-3))
