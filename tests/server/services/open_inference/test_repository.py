"""Loading and unloading on request: refused unless allowed, whole when allowed."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from server.models.lifecycle import State, Unavailable
from server.models.table import ModelTable, Snapshot
from server.services.open_inference.repository import RepositoryControl
from tests.server.conftest import Served, copy_version, pixels, serving
from tests.server.services.open_inference.conftest import failure, request


@pytest.fixture
def controlled(repository: Path, transport: str) -> Iterator[tuple[GRPCInferenceServiceStub, Path]]:
    copy_version(repository, "vae", 1)
    with serving(repository, transport=transport, model_control=True, poll_seconds=0) as served:
        yield GRPCInferenceServiceStub(served.channel), repository


def states(stub: GRPCInferenceServiceStub) -> dict[tuple[str, str], str]:
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
    return {(model.name, model.version): model.state for model in models}


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_refused_unless_allowed(server: Served, stub: GRPCInferenceServiceStub, method: str) -> None:
    error = failure(getattr(stub, method), getattr(pb, f"{method}Request")(model_name="vae"))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "--model-control" in error.details()
    assert stub.ModelReady(pb.ModelReadyRequest(name="vae")).ready
    assert server.app.table.get("vae", "")


def test_unload_and_load(controlled: tuple[GRPCInferenceServiceStub, Path]) -> None:
    stub, _ = controlled
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="vae"))
    assert states(stub) == {("vae", ""): "UNAVAILABLE"}
    assert not stub.ModelReady(pb.ModelReadyRequest(name="vae")).ready
    assert failure(stub.ModelInfer, request("vae.encode", pixels(1))).code() == grpc.StatusCode.UNAVAILABLE
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="vae"))
    assert states(stub) == {("vae", "1"): "READY"}
    assert stub.ModelInfer(request("vae.encode", pixels(1))).model_version == "1"


def test_load_takes_a_new_version(controlled: tuple[GRPCInferenceServiceStub, Path]) -> None:
    stub, repository = controlled
    copy_version(repository, "vae", 2)
    assert stub.ModelInfer(request("vae.encode", pixels(1))).model_version == "1"
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="vae"))
    assert stub.ModelInfer(request("vae.encode", pixels(1))).model_version == "2"


def test_bad_model_is_not_loaded(controlled: tuple[GRPCInferenceServiceStub, Path]) -> None:
    stub, repository = controlled
    (copy_version(repository, "fc-ae", 1) / "encode.onnx").write_bytes(b"damaged")
    error = failure(stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name="fc-ae"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "encode.onnx" in error.details()


@pytest.mark.parametrize("name", ["nope", "../vae", "vae.encode"])
@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_unknown_model(controlled: tuple[GRPCInferenceServiceStub, Path], method: str, name: str) -> None:
    error = failure(getattr(controlled[0], method), getattr(pb, f"{method}Request")(model_name=name))
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_overrides_and_no_name_are_refused(controlled: tuple[GRPCInferenceServiceStub, Path]) -> None:
    stub, _ = controlled
    override = pb.RepositoryModelLoadRequest(model_name="vae")
    override.parameters["file:1/model.onnx"].bytes_param = b"x"
    for bad, words in ((override, "file:1/model.onnx"), (pb.RepositoryModelLoadRequest(), "model_name")):
        error = failure(stub.RepositoryModelLoad, bad)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert words in error.details()


def test_the_index_shows_the_state_and_the_reason_of_what_does_not_serve() -> None:
    unavailable = {("vae", index): Unavailable(state, state.value) for index, state in enumerate(State)}
    table = ModelTable()
    table.replace(Snapshot({}, {}, unavailable, frozenset({"fc-ae"})))
    answers: list[bytes] = []
    none = cast("Any", None)
    RepositoryControl(table, none, none).index(
        cast("Any", SimpleNamespace(answer=answers.append)), pb.RepositoryIndexRequest()
    )
    shown = pb.RepositoryIndexResponse.FromString(answers[0]).models
    assert [(each.name, each.version, each.state, each.reason) for each in shown] == [
        *(
            ("vae", str(index), "LOADING" if state is State.LOADING else "UNAVAILABLE", state.value)
            for index, state in enumerate(State)
        ),
        ("fc-ae", "", "UNAVAILABLE", "unloaded"),
    ]
