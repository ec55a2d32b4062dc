"""Which model a request reaches, and the error when it reaches none."""

from collections.abc import Iterator

import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.errors import InvalidArgumentError, NotFoundError, ServingError, UnavailableError, WrongMethodError
from server.models.lifecycle import State, Unavailable
from server.models.table import ModelTable, ServedModel, Snapshot
from tests.server.conftest import GOLDEN, serving


@pytest.fixture(scope="module")
def golden() -> Iterator[dict[str, ServedModel]]:
    """Models that have been loaded for real."""
    with serving(GOLDEN, poll_seconds=0) as served:
        yield {model.name: model for model in served.app.table.all()}


def table(snapshot: Snapshot, *, scanned: bool = True) -> ModelTable:
    made = ModelTable()
    made.replace(snapshot)
    if scanned:
        made.note_scanned()
    return made


def refusal(made: ModelTable, name: str, version: str) -> ServingError:
    with pytest.raises(ServingError) as refused:
        made.get(name, version)
    return refused.value


def test_names_versions_and_labels(golden: dict[str, ServedModel]) -> None:
    old, new = golden["vae"], golden["fc-ae"]
    made = table(Snapshot({"m": {9: old, 10: new}}, {"m": {"stable": 9}}, {}))
    assert made.get("m", "") is made.get("", "") is made.get("m", "10") is new
    assert made.get("m", "9") is made.get("m", "stable") is made.get("", "stable") is old
    assert made.all() == [old, new]
    error = refusal(made, "m", "canary")
    assert isinstance(error, NotFoundError)
    assert "loaded are m (9, 10, stable)" in error.message


def test_a_name_is_required_when_several_models_are_loaded(golden: dict[str, ServedModel]) -> None:
    made = table(Snapshot({"a": {1: golden["vae"]}, "b": {1: golden["fc-ae"]}}, {}, {}))
    error = refusal(made, "", "")
    assert isinstance(error, InvalidArgumentError)
    assert "a (1); b (1)" in error.message
    assert isinstance(refusal(made, "c", ""), NotFoundError)


def test_what_is_known_and_does_not_serve_is_unavailable(golden: dict[str, ServedModel]) -> None:
    unavailable = {
        ("a", 2): Unavailable(State.REJECTED, "it is broken"),
        ("b", 1): Unavailable(State.LOADING, "it is being loaded"),
    }
    made = table(Snapshot({"a": {1: golden["vae"]}}, {}, unavailable))
    assert made.get("a", "") is golden["vae"]
    for name, version, why in (("a", "2", "it is broken"), ("b", "", "being loaded"), ("b", "1", "being loaded")):
        error = refusal(made, name, version)
        assert isinstance(error, UnavailableError)
        assert why in error.message
    assert isinstance(refusal(made, "a", "3"), NotFoundError)
    assert isinstance(refusal(made, "a", "stable"), NotFoundError)


def test_before_the_first_scan_nothing_is_known_to_be_absent(golden: dict[str, ServedModel]) -> None:
    made = table(Snapshot({"a": {1: golden["vae"]}}, {}, {}), scanned=False)
    assert made.get("a", "") is golden["vae"]
    error = refusal(made, "b", "")
    assert isinstance(error, UnavailableError)
    assert "starting" in error.message


def test_an_empty_table() -> None:
    assert isinstance(refusal(table(Snapshot({}, {}, {})), "", ""), UnavailableError)


def test_methods(golden: dict[str, ServedModel]) -> None:
    golden["multitask"].check("Classify")
    assert golden["vae"].has_posterior
    assert not golden["fc-ae"].has_posterior
    with pytest.raises(WrongMethodError, match="'denoiser' has no Encode: it serves Denoise"):
        golden["denoiser"].check("Encode")


def test_every_method_of_the_golden_models_is_one_of_the_service(golden: dict[str, ServedModel]) -> None:
    declared = {method.name for method in pb.DESCRIPTOR.services_by_name["AutoencoderService"].methods}
    assert all(model.methods <= declared for model in golden.values())
