"""Health, reflection, metrics and what is loaded into the process, seen by clients that know nothing of ours."""

import re
import urllib.request

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hourglass_client import Client, NotFoundError

from examples.local_server import LocalServer
from tests.end_to_end.conftest import RECIPES

# The first test here waits for five models to be trained and exported.
pytestmark = pytest.mark.timeout(1200)
SERVICE = "autoencoder.v1.AutoencoderService"


@pytest.mark.parametrize("service", ["", SERVICE, *RECIPES.values()])
def test_health(server: LocalServer, service: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_the_unknown(server: LocalServer) -> None:
    request = health_pb2.HealthCheckRequest(service="nobody")
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as failed:
        health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_generic_client_needs_reflection_alone(server: LocalServer, client: Client, images: np.ndarray) -> None:
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in set(database.get_services())
        method = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE).FindMethodByName("Encode")
        request = message_factory.GetMessageClass(method.input_type)(model_name="vae")
        request.images.tensor.data_type = 1
        request.images.tensor.shape.extend(images.shape)
        request.images.tensor.data = images.tobytes()
        call = channel.unary_unary(
            f"/{SERVICE}/Encode",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        latents = call(request, timeout=10).latents
    mine = client.encode(images, model="vae").latents
    np.testing.assert_array_equal(np.frombuffer(latents.data, "<f4").reshape(latents.shape), mine)


def page(server: LocalServer, path: str) -> str:
    with urllib.request.urlopen(f"http://{server.metrics_address}{path}", timeout=10) as answer:
        return answer.read().decode()


def counted(server: LocalServer, method: str, code: str) -> float:
    pattern = rf'autoencoder_requests_total\{{[^}}]*code="{code}"[^}}]*method="{method}"[^}}]*\}} (\S+)'
    return sum(float(found) for found in re.findall(pattern, page(server, "/metrics")))


def test_each_request_is_counted_once(server: LocalServer, client: Client, images: np.ndarray) -> None:
    before = counted(server, "Reconstruct", "OK"), counted(server, "Reconstruct", "NOT_FOUND")
    for _ in range(3):
        client.reconstruct(images, model="vae")
    with pytest.raises(NotFoundError):
        client.reconstruct(images, model="nobody")
    after = counted(server, "Reconstruct", "OK"), counted(server, "Reconstruct", "NOT_FOUND")
    assert (after[0] - before[0], after[1] - before[1]) == (3, 1)


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_answer_over_http(server: LocalServer, path: str) -> None:
    assert page(server, path)


def test_process_holds_no_training_code(server: LocalServer, client: Client) -> None:
    assert client.list_models()
    with open(f"/proc/{server.process.pid}/maps") as maps:  # noqa: PTH123 (/proc)
        loaded = maps.read()
    assert "/onnxruntime/" in loaded
    assert not re.search(r"site-packages/(torch|onnx|sklearn|scipy|matplotlib)/", loaded)
