"""Every method of every family, over the wire, against PyTorch."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hourglass_client import Client, FailedPreconditionError, InvalidArgumentError, NotFoundError
from PIL import Image

from bundle.noise import Purpose, normals
from tests.end_to_end.conftest import RECIPES, Journey

# The first test here waits for five models to be trained and exported.
pytestmark = pytest.mark.timeout(1200)
CODED = ("ae", "vae", "vae-gan", "multitask")
VARIATIONAL = CODED[1:]
OF_A_CODE = {"Encode", "Decode", "Reconstruct", "Sample", "Interpolate"}
METHODS = {
    "ae": OF_A_CODE,
    "vae": OF_A_CODE | {"Score"},
    "vae-gan": OF_A_CODE,
    "multitask": OF_A_CODE | {"Classify", "Score"},
    "flow": OF_A_CODE | {"Score"},
    "denoiser": {"Denoise"},
}


def channels_first(images: np.ndarray) -> torch.Tensor:
    scaled = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def channels_last(logits: torch.Tensor) -> np.ndarray:
    return torch.sigmoid(logits).permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def encode(journey: Journey, family: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    encoded = journey.checkpoint(family).model.encode(channels_first(images))
    return (encoded[0].numpy(), encoded[1].numpy()) if isinstance(encoded, tuple) else (encoded.numpy(), None)


@torch.no_grad()
def decode(journey: Journey, family: str, latents: np.ndarray) -> np.ndarray:
    return channels_last(journey.checkpoint(family).model.decode(torch.from_numpy(latents)))


@torch.no_grad()
def denoise(journey: Journey, images: np.ndarray) -> np.ndarray:
    return channels_last(journey.checkpoint("denoiser").model.denoise(channels_first(images)))


def close(actual: np.ndarray, expected: np.ndarray) -> None:
    """float32 on both sides: twice what export allows against float64."""
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5, strict=True)


@pytest.mark.parametrize("family", RECIPES)
def test_model_tells_its_methods(client: Client, family: str) -> None:
    model = client.get_model(RECIPES[family])
    # A learned prior makes no other family.
    assert (model.family, model.version) == ("vae" if family == "flow" else family, "1")
    assert set(model.methods) == METHODS[family]


def test_list_names_every_model(client: Client) -> None:
    assert [model.name for model in client.list_models()] == sorted(RECIPES.values())


@pytest.mark.parametrize("family", CODED)
def test_encode(client: Client, journey: Journey, images: np.ndarray, family: str) -> None:
    latents, log_variances = encode(journey, family, images)
    answer = client.encode(images, model=RECIPES[family])
    close(answer.latents, latents)
    assert (answer.log_variances is None) == (log_variances is None)
    if answer.log_variances is not None:
        close(answer.log_variances, log_variances)
    assert (answer.info.model_name, answer.info.model_version) == (RECIPES[family], "1")
    assert answer.info.run_microseconds > 0
    # A model whose runs take long on this machine serves nine rows in several.
    assert answer.info.batch_size >= 1


@pytest.mark.parametrize("form", ["float32 0 to 1", "no channel axis", "one image", "PNG", "PIL"])
def test_encode_takes_images_in_every_form(client: Client, images: np.ndarray, form: str, tmp_path: Path) -> None:
    picture = Image.fromarray(images[0, ..., 0])
    path = tmp_path / "digit.png"
    picture.save(path)
    given = {
        "float32 0 to 1": images[:1].astype(np.float32) / 255,
        "no channel axis": images[:1, ..., 0],
        "one image": images[0, ..., 0],
        "PNG": path,
        "PIL": [picture],
    }[form]
    plain = client.encode(images[:1], model="vae")
    np.testing.assert_array_equal(client.encode(given, model="vae").latents, plain.latents)


@pytest.mark.parametrize("family", CODED)
def test_decode(client: Client, journey: Journey, family: str) -> None:
    size = client.get_model(RECIPES[family]).latent_size
    latents = np.random.default_rng(1).normal(size=(5, size)).astype(np.float32)
    expected = decode(journey, family, latents)
    close(client.decode(latents, model=RECIPES[family], image_format="float32").images, expected)
    pixels = client.decode(latents, model=RECIPES[family])
    assert pixels.images.dtype == np.uint8
    assert np.abs(pixels.images - 255 * expected).max() <= 0.5 + 0.01
    files = client.decode(latents, model=RECIPES[family], image_format="png").files
    opened = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    np.testing.assert_array_equal(opened[..., np.newaxis], pixels.images)


@pytest.mark.parametrize("family", CODED)
def test_reconstruct(client: Client, journey: Journey, images: np.ndarray, family: str) -> None:
    expected = decode(journey, family, encode(journey, family, images)[0])
    answer = client.reconstruct(images, model=RECIPES[family], image_format="float32")
    close(answer.images, expected)
    errors = np.mean((expected - images.astype(np.float32) / 255) ** 2, axis=(1, 2, 3))
    close(answer.squared_errors, errors)


def test_denoise(client: Client, journey: Journey, images: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(0, 0.5, images.shape)
    noisy = np.clip(images / 255 + noise, 0, 1).astype(np.float32)
    close(client.denoise(noisy, model="denoiser", image_format="float32").images, denoise(journey, noisy))
    close(client.denoise(images, model="denoiser", image_format="float32").images, denoise(journey, images))


@pytest.mark.parametrize("family", VARIATIONAL)
def test_samples_decode_the_announced_noise(client: Client, journey: Journey, family: str) -> None:
    name = RECIPES[family]
    answer = client.sample(6, model=name, seed=11, temperature=0.5, include_latents=True, image_format="float32")
    size = client.get_model(name).latent_size
    assert answer.latents is not None
    close(answer.latents, np.float32(0.5) * normals(11, Purpose.SAMPLE, 0, 6, size))
    close(answer.images, decode(journey, family, answer.latents))


def test_ae_samples_from_its_fitted_density(client: Client, journey: Journey) -> None:
    answer = client.sample(6, model="fc-ae", seed=11, include_latents=True, image_format="float32")
    statistics = journey.checkpoint("ae").latents
    assert statistics is not None
    assert answer.latents is not None
    close(answer.latents, statistics.sample(11, 0, 6, 1.0, "mixture"))
    close(answer.images, decode(journey, "ae", answer.latents))


@pytest.mark.parametrize("family", CODED)
def test_a_sample_depends_on_seed_and_index_alone(client: Client, family: str) -> None:
    eight = client.sample(8, model=RECIPES[family], seed=3, image_format="float32")
    three = client.sample(3, model=RECIPES[family], seed=3, image_format="float32")
    other = client.sample(3, model=RECIPES[family], image_format="float32")
    np.testing.assert_array_equal(three.images, eight.images[:3])
    assert other.seed < 2**53
    assert not np.array_equal(other.images, three.images)


@pytest.mark.parametrize("family", CODED)
def test_interpolate(client: Client, journey: Journey, images: np.ndarray, family: str) -> None:
    ends = client.encode(images[:2], model=RECIPES[family]).latents
    answer = client.interpolate(
        from_images=images[:1], to_latents=ends[1], steps=5, model=RECIPES[family], image_format="float32"
    )
    close(answer.latents, np.linspace(ends[0], ends[1], 5, dtype=np.float32))
    close(answer.images, decode(journey, family, answer.latents))


@torch.no_grad()
def test_classify(client: Client, journey: Journey, images: np.ndarray) -> None:
    model = journey.checkpoint("multitask").model
    means, _ = model.encode(channels_first(images))
    answer = client.classify(images, model="multitask-vae")
    close(answer.probabilities, torch.softmax(model.classify(means), dim=1).numpy())
    assert answer.labels == tuple(str(digit) for digit in range(10))


def test_posterior_sample_is_told_its_seed(client: Client, images: np.ndarray) -> None:
    drawn = client.encode(images, model="vae", posterior="sample")
    assert drawn.seed is not None
    again = client.encode(images, model="vae", posterior="sample", seed=drawn.seed)
    mean = client.encode(images, model="vae")
    np.testing.assert_array_equal(again.latents, drawn.latents)
    assert mean.seed is None
    assert mean.log_variances is not None
    size = mean.latents.shape[1]
    noise = normals(drawn.seed, Purpose.ENCODE, 0, len(images), size)
    close(drawn.latents, mean.latents + np.exp(mean.log_variances / 2) * noise)


def test_refusals_say_what_is_wrong(client: Client, images: np.ndarray) -> None:
    with pytest.raises(FailedPreconditionError, match="Denoise"):
        client.encode(images, model="denoiser")
    with pytest.raises(NotFoundError, match="fc-ae"):
        client.encode(images, model="nobody")
    with pytest.raises(InvalidArgumentError, match="fc-ae"):
        client.encode(images)
    with pytest.raises(InvalidArgumentError, match="28") as refused:
        client.encode(np.zeros((1, 27, 28), np.uint8), model="vae")
    assert [violation.field for violation in refused.value.violations] == ["images.tensor.shape"]
