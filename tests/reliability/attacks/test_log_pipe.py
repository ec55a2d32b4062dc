"""Standard error is a pipe that is never read: the server goes on serving, and stops in time."""

import os
import signal
import subprocess
import sys

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from server.__main__ import LAST_SECONDS
from tests.server.conftest import GOLDEN, TRANSPORTS, images, pixels

# A pipe holds 64 KiB; a line of a refused call has some 300 bytes, and the limit is 100 a second for each place.
CALLS = 600
DRAIN_SECONDS = 1.0
SERVERS = TRANSPORTS if int(os.environ.get("TEST_SCALE", "1")) > 1 else ["grpcio"]


@pytest.mark.parametrize("transport", SERVERS)
def test_a_log_that_is_not_read_stops_neither_calls_nor_the_end(transport: str) -> None:
    ports = ("--port", "0", "--metrics-port", "0", "--log-level", "debug", "--drain-seconds", str(DRAIN_SECONDS))
    command = [sys.executable, "-m", "server", "--repository", str(GOLDEN), "--transport", transport, *ports]
    reading, writing = os.pipe()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writing, text=True) as process:
        try:
            address = process.stdout.readline().split()[1].removeprefix("grpc=")
            request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))
            with grpc.insecure_channel(address) as channel:
                encode = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode
                for _ in range(CALLS):
                    assert encode(request, timeout=60, wait_for_ready=True).info.model_name == "vae"
            process.send_signal(signal.SIGTERM)
            assert process.wait(DRAIN_SECONDS + LAST_SECONDS + 30) == 0
        finally:
            process.kill()
            os.close(writing)
    # It was full: nothing more could be written.
    assert len(os.read(reading, 1 << 20)) > 30_000
    os.close(reading)
