"""What /readyz, gRPC health and ModelReady say while a version is bad, is loading, or is gone."""

import shutil
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference import open_inference_pb2, open_inference_pb2_grpc

from server.models.lifecycle import LOADING, State
from server.models.readiness import ReadinessCheck
from server.models.table import ModelTable
from tests.server.conftest import Served, copy_version, serving, write_slow_denoiser
from tests.server.models.test_manager import FAST_POLL, corrupt, eventually, readyz, version

SERVICES = ("", "autoencoder.v1.AutoencoderService", "inference.GRPCInferenceService")


def health(served: Served, name: str) -> str:
    """Status by Check."""
    try:
        stub = health_pb2_grpc.HealthStub(served.channel)
        status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
    except grpc.RpcError as error:
        return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


def model_ready(served: Served, name: str, number: str = "") -> bool:
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    return stub.ModelReady(open_inference_pb2.ModelReadyRequest(name=name, version=number), timeout=10).ready


def answers(served: Served) -> set[bool]:
    """What /readyz, health of the server and of its services, and ServerReady say."""
    stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
    return {
        readyz(served)[0] == 200,
        stub.ServerReady(open_inference_pb2.ServerReadyRequest(), timeout=10).ready,
        *(health(served, service) == "SERVING" for service in SERVICES),
    }


def expect(served: Served, *, ready: bool) -> None:
    """All of them agree in the end."""
    eventually(lambda: answers(served) == {ready})


@pytest.mark.parametrize("strict", [False, True])
def test_a_bad_new_version_does_not_make_a_server_unready(repository: Path, transport: str, strict: bool) -> None:
    copy_version(repository, "fc-ae", 1)
    settings = {"transport": transport, "strict_readiness": strict}
    with serving(repository, **settings, **FAST_POLL) as served:
        corrupt(copy_version(repository, "fc-ae", 2) / "encode.onnx")
        eventually(lambda: "fc-ae version 2: " in readyz(served)[1])
        expect(served, ready=True)
        assert health(served, "fc-ae") == "SERVING"
        assert model_ready(served, "fc-ae")
        assert model_ready(served, "fc-ae", "1")
        assert not model_ready(served, "fc-ae", "2")
        assert version(served) == "1"


@pytest.mark.parametrize("strict", [False, True])
def test_a_server_without_a_serving_model_is_not_ready(repository: Path, transport: str, strict: bool) -> None:
    corrupt(copy_version(repository, "fc-ae", 1) / "encode.onnx")
    settings = {"transport": transport, "strict_readiness": strict}
    with serving(repository, **settings, **FAST_POLL) as served:
        expect(served, ready=False)
        assert health(served, "fc-ae") == "NOT_SERVING"
        assert not model_ready(served, "fc-ae")
        copy_version(repository, "fc-ae", 2)
        expect(served, ready=True)
        assert health(served, "fc-ae") == "SERVING"
        shutil.rmtree(repository / "fc-ae")
        eventually(lambda: health(served, "fc-ae") == "NOT_FOUND")
        expect(served, ready=False)
        assert readyz(served) == (503, "no model serves: the repository holds no <name>/<version>/model.json\n")


def test_strictly_a_bad_model_keeps_a_new_server_unready(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    corrupt(copy_version(repository, "vae", 1) / "decode.onnx")
    with serving(repository, **FAST_POLL) as served:
        expect(served, ready=True)
        assert (health(served, "fc-ae"), health(served, "vae")) == ("SERVING", "NOT_SERVING")
    with serving(repository, strict_readiness=True, **FAST_POLL) as served:
        expect(served, ready=False)
        assert (health(served, "fc-ae"), health(served, "vae")) == ("SERVING", "NOT_SERVING")
        assert "not every model serves: vae version 1: " in readyz(served)[1]
        shutil.rmtree(repository / "vae")
        eventually(lambda: health(served, "vae") == "NOT_FOUND")
        expect(served, ready=True)


def test_strictly_a_bad_model_that_comes_later_does_not_make_a_server_unready(repository: Path) -> None:
    copy_version(repository, "fc-ae", 1)
    with serving(repository, strict_readiness=True, **FAST_POLL) as served:
        expect(served, ready=True)
        corrupt(copy_version(repository, "vae", 1) / "decode.onnx")
        eventually(lambda: "vae version 1: " in readyz(served)[1] and LOADING not in readyz(served)[1])
        expect(served, ready=True)
        assert health(served, "vae") == "NOT_SERVING"
        # One that has served is missed.
        copy_version(repository, "vae", 2)
        eventually(lambda: health(served, "vae") == "SERVING")
        shutil.rmtree(repository / "vae" / "2")
        expect(served, ready=False)


def loading(served: Served, number: int) -> bool:
    return served.app.table.snapshot.unavailable.get(("slow", number)) == (State.LOADING, LOADING)


def test_a_server_that_loads_another_version_keeps_serving(repository: Path) -> None:
    write_slow_denoiser(repository, "slow", 1, layers=1)
    with serving(repository, **FAST_POLL) as served:
        for number in range(2, 12):
            write_slow_denoiser(repository, "slow", number, layers=60)
            eventually(lambda number=number: loading(served, number) or model_ready(served, "slow", str(number)))
            listed = served.stub.ListModels(pb.ListModelsRequest()).models
            seen = readyz(served), health(served, "slow"), answers(served), [each.version for each in listed]
            # A load that ends before we look is tried again with another version.
            if loading(served, number):
                break
            eventually(lambda number=number: model_ready(served, "slow", str(number)))
        (status, why), model, server, versions = seen
        assert (status, why) == (200, f"1 versions serve on CPUExecutionProvider; slow version {number}: {LOADING}\n")
        assert (model, server) == ("SERVING", {True})
        assert versions == [str(number - 1)]


def test_no_server_is_ready_before_the_first_scan() -> None:
    table = ModelTable()
    check = ReadinessCheck(table, strict=False)
    assert (check.check().ready, check.check().reason) == (False, "starting: models are being loaded")
    table.note_scanned()
    assert check.check().reason == "no model serves: the repository holds no <name>/<version>/model.json"
    check.stop()
    assert check.check().reason == "stopping"
    assert not any(check.serving(SERVICES).values())
