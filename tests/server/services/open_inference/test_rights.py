"""Tokens hold for the protocol and for streams as for the typed service; health needs none."""

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from tests.server.conftest import GOLDEN, Served, pixels, serving
from tests.server.services.open_inference.conftest import failure, request

CALLER, ADMIN = "c" * 20, "a" * 20
HEALTH = (("ServerLive", {}), ("ServerReady", {}), ("ModelReady", {"name": "vae"}))


@pytest.fixture
def guarded(tmp_path: Path, transport: str) -> Iterator[Served]:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"inference {CALLER}\ninference,admin {ADMIN}\n")
    with serving(GOLDEN, transport=transport, token_file=tokens, model_control=True, poll_seconds=0) as served:
        yield served


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def test_health_needs_no_token(guarded: Served) -> None:
    stub = GRPCInferenceServiceStub(guarded.channel)
    for method, fields in HEALTH:
        assert getattr(stub, method)(getattr(pb, f"{method}Request")(**fields), timeout=30).ListFields()


def test_inference_needs_a_token(guarded: Served) -> None:
    stub = GRPCInferenceServiceStub(guarded.channel)
    asked = request("vae.encode", pixels(1))
    assert failure(stub.ModelInfer, asked).code() == grpc.StatusCode.UNAUTHENTICATED
    assert stub.ModelInfer(asked, metadata=bearer(CALLER), timeout=30).outputs


def test_streams_need_a_token(guarded: Served) -> None:
    stub = GRPCInferenceServiceStub(guarded.channel)
    asked = request("vae.encode", pixels(1))
    for call in (stub.ModelStreamInfer, guarded.stub.Stream):
        assert failure(lambda _, call=call, **given: list(call(iter([]), **given)), None).code() == (
            grpc.StatusCode.UNAUTHENTICATED
        )
    (answer,) = stub.ModelStreamInfer(iter([asked]), metadata=bearer(CALLER), timeout=30)
    assert answer.infer_response.outputs
    item = autoencoder_pb2.StreamRequest(sample=autoencoder_pb2.SampleRequest(model_name="vae", count=1))
    assert len(list(guarded.stub.Stream(iter([item]), metadata=bearer(CALLER), timeout=30))) == 1


def test_control_needs_its_own_right(guarded: Served) -> None:
    stub = GRPCInferenceServiceStub(guarded.channel)
    asked = pb.RepositoryModelLoadRequest(model_name="vae")
    with pytest.raises(grpc.RpcError) as caught:
        stub.RepositoryModelLoad(asked, metadata=bearer(CALLER), timeout=30)
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    stub.RepositoryModelLoad(asked, metadata=bearer(ADMIN), timeout=30)


def test_a_token_taken_back_ends_what_a_stream_may_do(guarded: Served, tmp_path: Path) -> None:
    arrived: SimpleQueue[pb.ModelInferRequest | None] = SimpleQueue()
    stub = GRPCInferenceServiceStub(guarded.channel)
    answers = stub.ModelStreamInfer(iter(arrived.get, None), metadata=bearer(CALLER), timeout=30)
    arrived.put(request("vae.encode", pixels(1)))
    assert not next(answers).error_message
    (tmp_path / "tokens").write_text(f"admin {ADMIN}\n")
    guarded.app.reload()
    arrived.put(request("vae.encode", pixels(1)))
    assert next(answers).error_message.startswith("UNAUTHENTICATED: ")
    arrived.put(None)
    assert list(answers) == []
