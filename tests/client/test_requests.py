import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from hourglass_client import InvalidArgumentError, requests

PIXELS = np.zeros((1, 2, 2), np.uint8)


def test_absent_seed_and_temperature_stay_absent() -> None:
    bare = requests.sample(3)
    assert not bare.HasField("seed")
    assert not bare.HasField("temperature")
    full = requests.sample(3, model="vae", version="2", seed=0, temperature=0, include_latents=True, form="none")
    assert full == pb.SampleRequest(
        model_name="vae",
        model_version="2",
        count=3,
        seed=0,
        temperature=0,
        include_latents=True,
        image_format=pb.IMAGE_FORMAT_NONE,
    )
    assert full.HasField("seed")


def test_ends_of_a_path_are_images_or_latents() -> None:
    request = requests.interpolate(from_images=PIXELS, to_latents=[1.0, 2.0], steps=4, interpolation="spherical")
    assert (request.WhichOneof("from"), request.WhichOneof("to")) == ("from_images", "to_latents")
    assert (request.steps, request.interpolation) == (4, pb.INTERPOLATION_SPHERICAL)


def test_shifts() -> None:
    request = requests.edit({"thickness": 1.5, "slant": -1}, latents=np.zeros((2, 3), np.float32))
    assert {shift.attribute: shift.amount for shift in request.shifts} == {"thickness": 1.5, "slant": -1}
    assert request.WhichOneof("input") == "latents"


def test_sixteen_bits_come_back_as_sixteen_by_default() -> None:
    words = PIXELS.astype(np.uint16)
    expected = {"uint8": PIXELS, "uint16": words, "float": PIXELS / 255, "file": b"a file"}
    made = {name: requests.denoise(images).image_format for name, images in expected.items()}
    eight, sixteen = pb.IMAGE_FORMAT_UINT8, pb.IMAGE_FORMAT_UINT16
    assert made == {"uint8": eight, "uint16": sixteen, "float": eight, "file": eight}
    assert requests.denoise(words, form="float32").image_format == pb.IMAGE_FORMAT_FLOAT32
    assert requests.edit({}, images=words).image_format == sixteen
    assert requests.interpolate(from_latents=[1.0], to_images=words).image_format == sixteen
    assert requests.decode([1.0]).image_format == eight


@pytest.mark.parametrize(("level", "sent"), [(0.5, [0.5]), ([0.25, 0.5], [0.25, 0.5]), (np.float64(0.5), [0.5])])
def test_noise_levels(level: float | list[float], sent: list[float]) -> None:
    assert list(requests.denoise(PIXELS.repeat(2, 0), noise_level=level).noise_levels) == sent


def test_sizes_of_what_is_drawn() -> None:
    assert not requests.decode([1.0]).HasField("height")
    cropped = requests.decode(np.zeros((2, 3, 4), np.float16), height=5, width=7)
    assert (cropped.height, cropped.width, list(cropped.latents.shape)) == (5, 7, [1, 2, 3, 4])
    assert requests.sample(1, height=5, width=7) == pb.SampleRequest(
        count=1, height=5, width=7, image_format=pb.IMAGE_FORMAT_UINT8
    )


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: requests.denoise(PIXELS, noise_level=[0.1, 0.2]), "noise_level"),
        (lambda: requests.denoise([b"a", b"b"], noise_level=[0.1, 0.2, 0.3]), "noise_level"),
        (lambda: requests.denoise(PIXELS, noise_level="much"), "noise_level"),
        (lambda: requests.denoise(PIXELS, noise_level=[]), "noise_level"),
        (lambda: requests.denoise([PIXELS[0], np.zeros((3, 3), np.uint8)]), "images"),
        (lambda: requests.denoise(PIXELS.astype(np.uint32)), "images"),
        (lambda: requests.encode(PIXELS, latent_format="float64"), "latent_format"),
        (lambda: requests.decode([1.0], height=2**31), "height"),
        (lambda: requests.decode(np.zeros((1, 1, 1, 1, 1))), "latents"),
        (lambda: requests.edit({}, latents=np.zeros((1, 2), np.uint8)), "latents"),
        (lambda: requests.sample(1, seed=-1), "seed"),
        (lambda: requests.sample(1, seed=2**64), "seed"),
        (lambda: requests.sample(2**31), "count"),
        (lambda: requests.interpolate(from_images=PIXELS), "to_images"),
        (lambda: requests.interpolate(from_images=PIXELS, from_latents=[1.0], to_latents=[1.0]), "from_images"),
        (lambda: requests.edit({}), "images"),
        (lambda: requests.encode(PIXELS, posterior="median"), "posterior"),
        (lambda: requests.interpolate(from_latents=[1.0], to_latents=[1.0], interpolation="cubic"), "interpolation"),
    ],
)
def test_an_invalid_argument_is_rejected_without_a_call(make, field: str) -> None:  # noqa: ANN001 (a lambda)
    with pytest.raises(InvalidArgumentError) as rejected:
        make()
    assert [violation.field for violation in rejected.value.violations] == [field]
