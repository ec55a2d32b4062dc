"""The facts of a version follow from its model.json."""

import pytest

from bundle import layout
from server.errors import WrongMethodError
from server.model_version import ModelVersion
from tests.server.conftest import GOLDEN


def version(name: str) -> ModelVersion:
    model = layout.read_model(GOLDEN / name / "1")
    return ModelVersion(model=model, input_types={}, statistics=None, provider="CPUExecutionProvider", opset=18)


def test_what_every_request_needs_is_read_once() -> None:
    vae = version("vae")
    assert (vae.name, vae.version) == ("vae", "1")
    assert vae.shapes.image == (vae.model.height, vae.model.width, vae.model.channels)
    assert vae.shapes.latent == (vae.model.latent_size,)
    assert vae.methods == frozenset(vae.model.methods)


def test_a_posterior_is_a_second_output_of_the_encoder() -> None:
    assert version("vae").has_posterior
    assert not version("fc-ae").has_posterior
    assert not version("denoiser").has_posterior


def test_a_method_that_the_model_lacks_is_refused_with_those_it_has() -> None:
    version("multitask").check("Classify")
    with pytest.raises(WrongMethodError, match="'denoiser' has no Encode: it serves Denoise"):
        version("denoiser").check("Encode")
