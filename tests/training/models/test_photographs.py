import pytest
import torch

from training.config import Architecture
from training.errors import ConfigError
from training.models import autoencoders, initial_weights
from training.models.families import ImageShape, Network
from training.models.posterior import Posterior

FREE, FIXED = (0, 0, 3), (16, 24, 3)
SPATIAL = {"latent_channels": 5}


def made(family: str, shape: ImageShape, **settings: object) -> Network:
    values = {"family": family, "body": "residual", "channels": [4, 6], "blocks": 1, **settings}
    model = autoencoders.build(Architecture.model_validate(values), shape)
    initial_weights.initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("upsampling", ["nearest", "transposed"])
@pytest.mark.parametrize("family", ["ae", "vae"])
def test_a_spatial_code_follows_the_size_of_the_image(family: str, upsampling: str) -> None:
    model = made(family, FREE, upsampling=upsampling, **SPATIAL)
    assert (model.image_shape, model.latent_shape, model.latent_size) == (FREE, (0, 0, 5), 0)
    assert (model.multiple, model.downsampling, model.float_images, model.output) == (4, 4, True, "pixels")
    for height, width in ((4, 4), (16, 24), (64, 8)):
        code = model.encode(images(2, 3, height, width))
        means = code.means if isinstance(code, Posterior) else code
        assert means.shape == (2, 5, height // 4, width // 4)
        assert model.decode(means).shape == (2, 3, height, width)


def test_fixed_sizes_have_codes_of_a_known_shape() -> None:
    assert made("ae", FIXED, **SPATIAL).latent_shape == (4, 6, 5)
    vector = made("vae", FIXED, latent_size=7)
    assert (vector.latent_shape, vector.latent_size, vector.downsampling) == ((7,), 7, 0)
    assert vector.encode(images(2, 3, 16, 24)).means.shape == (2, 7)
    assert vector.decode(torch.zeros(2, 7)).shape == (2, 3, 16, 24)


def test_a_part_of_an_image_is_computed_as_it_is_in_the_whole() -> None:
    model, whole = made("ae", FREE, **SPATIAL), images(1, 3, 128, 16)
    part = model.decode(model.encode(whole[:, :, :96]))
    torch.testing.assert_close(part[:, :, :48], model.decode(model.encode(whole))[:, :, :48])


def test_a_network_starts_as_its_linear_map() -> None:
    model, seen = made("ae", FREE, **SPATIAL), images(1, 3, 16, 16)
    grey = torch.full_like(seen, 0.5)
    codes = [model.encode(each) for each in (grey + (seen - grey) / 2, seen)]
    torch.testing.assert_close(2 * codes[0], codes[1])


@pytest.mark.parametrize("takes_levels", [False, True])
def test_a_denoiser_keeps_any_even_size_and_takes_noise_away(takes_levels: bool) -> None:
    model = made("denoiser", FREE, noise_level_input=takes_levels)
    assert (model.multiple, model.latent_shape, model.takes_noise_levels) == (2, (), takes_levels)
    levels = (torch.tensor([0.1, 0.2]),) if takes_levels else ()
    for size in ((2, 2), (10, 6)):
        seen = 3 * images(2, 3, *size) - 1
        assert model.denoise(seen, *levels).shape == seen.shape
    if takes_levels:
        assert not torch.equal(model.denoise(seen, *levels), model.denoise(seen, torch.zeros(2)))


def test_a_denoiser_with_shortcuts_starts_by_changing_nothing() -> None:
    model, seen = made("denoiser", FREE, shortcuts=True, noise_level_input=True), images(2, 3, 6, 4)
    assert torch.equal(model.denoise(seen, torch.zeros(2)), seen)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1)
    assert not torch.equal(model.denoise(seen, torch.zeros(2)), seen)


@pytest.mark.parametrize(
    ("family", "shape", "settings", "message"),
    [
        ("ae", (18, 16, 3), SPATIAL, "multiple of 4 pixels, got 18x16: set data.size"),
        ("ae", FIXED, {}, "model.latent_channels .* or model.latent_size"),
        ("ae", FIXED, {**SPATIAL, "latent_size": 3}, "got latent_channels 5 and latent_size 3"),
        ("ae", FIXED, {**SPATIAL, "channels": []}, "model.channels"),
        ("denoiser", (7, 8, 1), {}, "multiple of 2"),
        ("vae-gan", FIXED, {"latent_size": 3}, "VAE/GAN expects model.body dense or conv"),
        ("denoiser", (8, 8, 1), {"channels": []}, "model.channels"),
    ],
)
def test_what_does_not_fit_is_refused(family: str, shape: ImageShape, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(family, shape, **settings)


def test_sizes_are_free_where_images_are_cropped_and_the_network_takes_any() -> None:
    spatial, vector = (
        {"family": "ae", "body": "residual", "channels": [4], **code} for code in (SPATIAL, {"latent_size": 3})
    )
    shape = (16, 16, 3)

    def found(settings: dict, *, cropped: bool) -> ImageShape:
        return autoencoders.image_shape(Architecture.model_validate(settings), shape, cropped=cropped)

    assert found(spatial, cropped=True) == FREE
    assert found(spatial, cropped=False) == found(vector, cropped=True) == shape
    assert found({"family": "ae", "latent_size": 3}, cropped=True) == shape
    with pytest.raises(ConfigError, match="multiple of 32"):
        found({**spatial, "channels": [4] * 5}, cropped=True)
