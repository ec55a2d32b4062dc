"""A scripted server: it returns the answers that a test lists, over a real connection."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.autoencoder_pb2_grpc import AutoencoderServiceServicer, add_AutoencoderServiceServicer_to_server
from google.rpc import status_pb2

Answer = pb.GetModelResponse | status_pb2.Status


@dataclass
class ScriptedServer(AutoencoderServiceServicer):
    """Answers GetModel from `script`, one entry per call, then the last entry repeatedly."""

    script: list[Answer] = field(default_factory=lambda: [pb.GetModelResponse()])
    calls: int = 0
    metadata: dict[str, str | bytes] = field(default_factory=dict)
    address: str = ""

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:  # noqa: ARG002, N802 (gRPC's)
        self.calls += 1
        self.metadata = dict(context.invocation_metadata())
        answer = self.script[min(self.calls, len(self.script)) - 1]
        if isinstance(answer, status_pb2.Status):
            context.set_trailing_metadata((("grpc-status-details-bin", answer.SerializeToString()),))
            context.abort(next(code for code in grpc.StatusCode if code.value[0] == answer.code), answer.message)
        return answer


Start = Callable[..., ScriptedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts scripted servers, each on a free port."""
    started: list[grpc.Server] = []

    def begin(
        *script: Answer,
        credentials: grpc.ServerCredentials | None = None,
        also: Callable[[grpc.Server], None] | None = None,
    ) -> ScriptedServer:
        servicer = ScriptedServer(list(script) or [pb.GetModelResponse()])
        server = grpc.server(ThreadPoolExecutor(4))
        add_AutoencoderServiceServicer_to_server(servicer, server)
        if also:
            also(server)
        place = "127.0.0.1:0"
        port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
        servicer.address = f"127.0.0.1:{port}"
        server.start()
        started.append(server)
        return servicer

    yield begin
    for server in started:
        server.stop(None).wait()
