"""What goes through Envoy: every kind of call, large messages, limits by caller."""

import io
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc
from google.rpc import error_details_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hourglass_client import (
    Client,
    HourglassError,
    NotFoundError,
    ResourceExhaustedError,
    Retry,
    UnavailableError,
    requests,
)
from inference import open_inference_pb2, open_inference_pb2_grpc
from PIL import Image

from examples.local_server import LocalServer
from tests.deploy.conftest import DEPLOY
from tests.deploy.envoy.proxy import Envoy, envoy, program, publish, wait_for
from tests.server.conftest import pixels

BUCKET = "token_bucket: {max_tokens: 10000, tokens_per_fill: 5000, fill_interval: 1s}"


def test_the_configuration_is_valid_and_warns_of_nothing(proxy: Envoy) -> None:
    command = [program(), "-c", "envoy.yaml", "--mode", "validate", "--disable-hot-restart", "--log-level", "warning"]
    checked = subprocess.run(command, cwd=proxy.folder, check=True, capture_output=True, text=True)
    assert checked.stdout.splitlines() == ["configuration 'envoy.yaml' OK"]
    assert checked.stderr == ""
    assert "address: 127.0.0.1, port_value: 9901" in (DEPLOY / "envoy" / "envoy.yaml").read_text(), "admin page"


def test_every_kind_of_call_goes_through(proxy: Envoy, replicas: list[LocalServer]) -> None:
    before = proxy.calls()
    with grpc.secure_channel(proxy.address, proxy.tls.credentials()) as channel:
        answer = HealthStub(channel).Check(HealthCheckRequest(), timeout=30)
        assert answer.status == HealthCheckResponse.SERVING
        assert next(HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)).status == HealthCheckResponse.SERVING
        assert "autoencoder.v1.AutoencoderService" in ProtoReflectionDescriptorDatabase(channel).get_services()
        infer = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert infer.ModelReady(open_inference_pb2.ModelReadyRequest(name="vae"), timeout=30).ready
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListModels(pb.ListModelsRequest(), timeout=30, compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "uncompressed" in (refused.value.details() or "")
    with Client(proxy.address, tls=proxy.tls) as client:
        for _ in range(10):
            assert client.encode(pixels(2), model="vae").latents.shape[0] == 2
        items = [requests.encode(pixels(1, seed=index), model="vae") for index in range(300)]
        answered = dict(client.stream({str(index): item for index, item in enumerate(items)}.items()))
        assert len(answered) == 300
        assert not [each for each in answered.values() if isinstance(each, HourglassError)]
    assert all(proxy.calls()[replica.address] > before[replica.address] for replica in replicas)


def test_only_tls_is_spoken_and_a_new_certificate_is_taken(proxy: Envoy) -> None:
    with Client(proxy.address, retry=Retry(attempts=1)) as plain, pytest.raises(UnavailableError):
        plain.list_models()
    old = proxy.stat(r"listener\..*\.server_ssl_socket_factory\.ssl_context_update_by_sds")
    proxy.authority.issue().write(proxy.folder / "tls", "tls")
    wait_for(lambda: proxy.stat(r"listener\..*\.server_ssl_socket_factory\.ssl_context_update_by_sds") > old)
    with Client(proxy.address, tls=proxy.tls) as client:
        assert client.list_models()


def test_a_large_message_goes_through(proxy: Envoy) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (1400, 1400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 5 * 2**20
    with Client(proxy.address, tls=proxy.tls) as client:
        assert client.encode([file.getvalue()], model="vae", resize=True).latents.shape[0] == 1


def test_replicas_know_who_calls(proxy: Envoy, replicas: list[LocalServer]) -> None:
    logs = [Path(f"/proc/{replica.process.pid}/fd/2").resolve() for replica in replicas]

    def all_know() -> bool:
        with Client(proxy.address, tls=proxy.tls) as client, pytest.raises(NotFoundError):
            client.encode(pixels(1), model="absent")
        # Port 0: named by Envoy, not the connection's own. For a caller on loopback it names the machine.
        return all(re.search(r"NOT_FOUND.*peer='ipv4:[0-9.]+:0'", log.read_text()) for log in logs)

    wait_for(all_know)


def test_a_caller_beyond_its_limit_is_told_when_to_come_back(tmp_path: Path, replicas: list[LocalServer]) -> None:
    def edit(text: str) -> str:
        assert BUCKET in text
        return text.replace(BUCKET, "token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 1s}")

    def client(token: str, attempts: int) -> Client:
        return Client(limited.address, tls=limited.tls, token=token, retry=Retry(attempts=attempts))

    with envoy(tmp_path / "limited", replicas[0].address, edit=edit) as limited:
        with client("greedy", 1) as greedy, pytest.raises(ResourceExhaustedError) as refused:
            _call_often(greedy)
        assert refused.value.retry_after_seconds == 1
        assert any(isinstance(each, error_details_pb2.RetryInfo) for each in refused.value.details)
        with client("another", 1) as another:
            assert another.list_models(), "each token has a limit of its own"
        with client("greedy", 9) as patient:
            for _ in range(3):
                assert patient.list_models(), "it waits and calls again"


def _call_often(client: Client) -> None:
    for _ in range(1000):
        client.list_models()


def test_replicas_are_called_when_none_of_them_passes_its_checks(tmp_path: Path, replicas: list[LocalServer]) -> None:
    answering = grpc.server(ThreadPoolExecutor(1))
    encode = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    service = grpc.method_handlers_generic_handler("autoencoder.v1.AutoencoderService", {"Encode": encode})
    answering.add_generic_rpc_handlers((service,))
    address = f"127.0.0.1:{answering.add_insecure_port('127.0.0.1:0')}"
    answering.start()
    with envoy(tmp_path, replicas[0].address) as proxy:
        publish(proxy.folder, address)
        wait_for(lambda: replicas[0].address not in proxy.calls() and not proxy.healthy())
        credentials = grpc.ssl_channel_credentials(proxy.authority.certificate)
        with grpc.secure_channel(proxy.address, credentials) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            assert stub.Encode(pb.EncodeRequest(), timeout=20) == pb.EncodeResponse()
    answering.stop(None)
