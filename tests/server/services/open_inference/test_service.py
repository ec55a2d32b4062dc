"""What the protocol tells about server, models and their work."""

from pathlib import Path

import grpc
import pytest
from inference import model_config_pb2
from inference import open_inference_pb2 as pb
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from server.models.table import ServedModel
from server.services.open_inference.graphs import GraphTable
from tests.server.conftest import Served, copy_version, pixels, serving
from tests.server.services.open_inference.conftest import failure, request


def test_live_and_ready(stub: GRPCInferenceServiceStub) -> None:
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("vae", "", True),
        ("vae", "1", True),
        ("vae.encode", "", True),
        ("denoiser", "", True),
        ("vae", "2", False),
        ("vae.denoise", "", False),
        ("nope", "", False),
        ("", "", False),
    ],
)
def test_model_ready(stub: GRPCInferenceServiceStub, name: str, version: str, *, ready: bool) -> None:
    assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready == ready


def test_server_without_a_model_is_live_and_not_ready(repository: Path, transport: str) -> None:
    with serving(repository, transport=transport) as served:
        stub = GRPCInferenceServiceStub(served.channel)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready


def test_server_metadata(stub: GRPCInferenceServiceStub) -> None:
    answer = stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (answer.name, answer.version) == ("hourglass", "0.1.0")
    assert set(answer.extensions) == {"model_configuration", "model_repository", "statistics"}


@pytest.mark.parametrize("name", ["vae.encode", "vae"])
def test_model_metadata(stub: GRPCInferenceServiceStub, name: str) -> None:
    answer = stub.ModelMetadata(pb.ModelMetadataRequest(name=name))
    assert (answer.name, list(answer.versions), answer.platform) == (name, ["1"], "onnx_onnxv1")
    (image,) = answer.inputs
    assert (image.name, image.datatype, list(image.shape)) == ("images", "UINT8", [-1, 8, 8, 1])
    outputs = {output.name: (output.datatype, list(output.shape)) for output in answer.outputs}
    if name == "vae":
        assert outputs == {"reconstructions": ("FP32", [-1, 8, 8, 1]), "squared_errors": ("FP32", [-1])}
    else:
        assert outputs == {"latents": ("FP32", [-1, 3]), "log_variances": ("FP32", [-1, 3])}
    assert answer.properties["graphs"] == "vae.decode,vae.encode,vae.reconstruct"


def test_model_config(stub: GRPCInferenceServiceStub) -> None:
    config = stub.ModelConfig(pb.ModelConfigRequest(name="denoiser", version="1")).config
    assert (config.name, config.max_batch_size, config.backend) == ("denoiser", 1024, "onnxruntime")
    assert [(given.name, given.data_type, list(given.dims)) for given in config.input] == [
        ("images", model_config_pb2.TYPE_FP32, [8, 8, 1])
    ]
    assert [output.name for output in config.output] == ["denoised"]
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
def test_unknown_model_is_not_found(stub: GRPCInferenceServiceStub, method: str) -> None:
    error = failure(getattr(stub, method), getattr(pb, f"{method}Request")(name="nope"))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert "vae (1)" in error.details()


def test_statistics_count_every_run(transport: str, repository: Path) -> None:
    copy_version(repository, "vae", 1)
    with serving(repository, transport=transport) as served:
        stub = GRPCInferenceServiceStub(served.channel)
        for rows in (1, 3, 3):
            stub.ModelInfer(request("vae.encode", pixels(rows)))
        (encode,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="vae.encode", version="1")).model_stats
        every = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert [(stats.name, stats.version) for stats in every] == [
        ("vae.decode", "1"),
        ("vae.encode", "1"),
        ("vae.reconstruct", "1"),
    ]
    assert (encode.inference_count, encode.execution_count) == (7, 3)
    assert {batch.batch_size: batch.compute_infer.count for batch in encode.batch_stats} == {1: 1, 3: 2}
    times = encode.inference_stats
    assert times.success.count == times.queue.count == times.compute_infer.count == 3
    assert times.success.ns == times.queue.ns + times.compute_infer.ns > 0
    assert times.fail.count == 0
    assert encode.last_inference > 1_700_000_000_000


def test_a_model_unloaded_while_statistics_are_collected_fails_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fc-ae", "vae"):
        copy_version(repository, name, 1)
    with serving(repository, transport="grpcio") as served:
        table = served.app.table
        of_table = table.all

        def then_unloaded() -> list[ServedModel]:
            found = of_table()
            monkeypatch.setattr(table, "all", of_table)
            served.app.manager.unload("vae")
            return found

        monkeypatch.setattr(table, "all", then_unloaded)
        found = GraphTable(table).all()
        assert {version.name for version in of_table()} == {"fc-ae"}
    assert {graph.name for _, graph in found} >= {"fc-ae.encode", "vae.encode"}
    assert all(graph.served is version for version, graph in found)


def test_index_tells_states_and_reasons(repository: Path, transport: str) -> None:
    copy_version(repository, "vae", 1)
    (copy_version(repository, "fc-ae", 1) / "encode.onnx").write_bytes(b"damaged")
    with serving(repository, transport=transport) as served:
        stub = GRPCInferenceServiceStub(served.channel)
        every = {model.name: model for model in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models
        assert not stub.ModelReady(pb.ModelReadyRequest(name="fc-ae")).ready
    assert (every["vae"].state, every["vae"].version, every["vae"].reason) == ("READY", "1", "")
    assert every["fc-ae"].state == "UNAVAILABLE"
    assert "encode.onnx" in every["fc-ae"].reason
    assert [model.name for model in ready] == ["vae"]


def test_protocol_has_a_health_entry_and_reflection(server: Served) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    check = health_pb2_grpc.HealthStub(server.channel).Check
    status = check(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")).status
    assert status == health_pb2.HealthCheckResponse.SERVING
