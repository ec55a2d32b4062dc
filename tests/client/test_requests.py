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


@pytest.mark.parametrize(
    ("make", "field"),
    [
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
