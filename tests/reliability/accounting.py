"""Callers of a server, and what it has counted of them."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import LocalServer
from tests.reliability.resources import counted, metrics
from tests.server.conftest import images, pixels

SLOW = pb.DenoiseRequest(model_name="slow", images=images(pixels(8, (32, 32, 1))), image_format=pb.IMAGE_FORMAT_NONE)
QUICK = pb.EncodeRequest(model_name="vae", images=images(pixels(2)))
CLIENT = """
import sys, time, grpc
from autoencoder.v1 import autoencoder_pb2 as pb, autoencoder_pb2_grpc
request = pb.DenoiseRequest.FromString(bytes.fromhex(sys.argv[2]))
channel = grpc.insecure_channel(sys.argv[1])
call = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Denoise
calls = [call.future(request) for _ in range(100)]
print("sent", flush=True)
while True:
    for index, done in enumerate(calls):
        if sys.argv[3] == "again" and done.done():
            calls[index] = call.future(request)
    time.sleep(0.001)
"""


def check_healthy(server: LocalServer) -> None:
    # Everybody else comes from ::1, and is another caller.
    with grpc.insecure_channel(f"127.0.0.1:{server.address.rpartition(':')[2]}") as channel:
        autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(QUICK, timeout=30)


def settle(server: LocalServer) -> None:
    end = time.monotonic() + 60
    while metrics(server, "autoencoder_requests_in_flight") or metrics(server, "autoencoder_queue_rows"):
        assert time.monotonic() < end, "requests are stuck"
        time.sleep(0.05)


def ended(server: LocalServer, act: Callable[[], None]) -> Counter[str]:
    """Codes that the server counted while something was done."""
    before = Counter(counted(server))
    act()
    settle(server)
    return Counter(counted(server)) - before


def code_of(call: grpc.Future) -> str:
    try:
        return call.code().name
    except grpc.FutureCancelledError:
        return "CANCELLED"


def await_arrival(server: LocalServer, calls: int) -> None:
    """Wait until so many calls have come in since the server's start."""
    looks = 3000
    # In this order: a call that ends meanwhile is missed, and none is counted twice.
    while sum(counted(server).values()) + metrics(server, "autoencoder_requests_in_flight") < calls:
        looks -= 1
        assert looks, "calls have not come in"
        time.sleep(0.02)


def client(server: LocalServer, *, again: bool) -> subprocess.Popen[str]:
    """A program that makes a hundred slow calls, and again one for each that has ended."""
    command = [sys.executable, "-c", CLIENT, server.address, SLOW.SerializeToString().hex()]
    process = subprocess.Popen([*command, "again" if again else "once"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "sent\n"
    return process
