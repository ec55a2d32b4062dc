"""HTTP bodies that might take many times their size: memory of the server, and the wait of a caller beside them."""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from examples.local_server import running
from tests.reliability.resources import MIB, listening_port
from tests.server.conftest import GOLDEN, tensor

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
BODY_BYTES = (16 if SCALE > 1 else 2) * MIB
# Of a body's size, and what the allocator keeps and a document of the longest kind takes.
MOST_TIMES = 10
SLACK_BYTES = 64 * MIB
DECODE = pb.DecodeRequest(model_name="vae", latents=tensor(np.zeros((1, 3), np.float32))).SerializeToString()


def data(shape: list[int], numbers: str, datatype: str = "UINT8") -> str:
    given = {"name": "images", "datatype": datatype, "shape": shape}
    return f'{{"inputs": [{json.dumps(given)[:-1]}, "data": {numbers}}}]}}'


def flat(first: list[int], last: list[int], number: str, datatype: str) -> str:
    count = BODY_BYTES // (len(number) + 1)
    return data([*first, count, *last], f"[{','.join([number] * count)}]", datatype)


def repeated(part: str) -> str:
    return ",".join([part] * (BODY_BYTES // (len(part) + 1)))


def commas() -> str:
    return data([BODY_BYTES, *[1] * 31], f"[{',' * (BODY_BYTES - 1)}]")


def lists(depth: int) -> str:
    element = "[" * depth + "0" + "]" * depth
    count = BODY_BYTES // (len(element) + 1)
    return data([count, *[1] * depth], f"[{repeated(element)}]")


ONE = json.dumps({"name": "images", "datatype": "UINT8", "shape": [1, 8, 8, 1], "data": [0] * 64})


def brackets_elsewhere() -> str:
    """So many lists that numbers are read by their brackets, in a flat array of a shape of many axes."""
    brackets = "[" * (BODY_BYTES // 100)
    return commas()[:-1] + f', "id": "{brackets}"}}'


BODIES: dict[str, Callable[[], str]] = {
    "axes behind, commas only": commas,
    "axes behind, commas, brackets": brackets_elsewhere,
    "axes behind": lambda: flat([], [1] * 31, "0", "UINT8"),
    "axes before": lambda: flat([1] * 31, [], "0", "UINT8"),
    "floats": lambda: flat([], [], "0.1", "FP32"),
    "whole numbers": lambda: flat([], [], "0", "INT64"),
    "a list per number": lambda: lists(1),
    "thirty lists per number": lambda: lists(30),
    "truths": lambda: flat([], [8, 8, 1], "true", "FP32"),
    "texts": lambda: flat([], [8, 8, 1], '""', "UINT8"),
    "objects": lambda: flat([], [8, 8, 1], "{}", "UINT8"),
    "inputs": lambda: f'{{"inputs": [{repeated(ONE)}]}}',
    "outputs": lambda: f'{{"inputs": [{ONE}], "outputs": [{repeated(json.dumps({"name": "latents"}))}]}}',
    "parameters": lambda: f'{{"inputs": [{ONE}], "parameters": {{{repeated(json.dumps("x") + ": 1")}}}}}',
    "deep": lambda: "[" * BODY_BYTES,
}


def typed(data: str, shape: str = "[1, 8, 8, 1]") -> str:
    return f'{{"images": {{"tensor": {{"shape": {shape}, "data": {data}}}}}}}'


# For autoencoder.v1.
TYPED_BODIES: dict[str, Callable[[], str]] = {
    "base64": lambda: typed(f'"{"A" * BODY_BYTES}"'),
    "escaped base64": lambda: typed('"' + "\\/" * (BODY_BYTES // 2) + '"'),
    "base64 in many texts": lambda: f'{{"images": {{"encoded": {{"files": [{repeated(json.dumps("A" * 600))}]}}}}}}',
    "short texts": lambda: f'{{"images": {{"encoded": {{"files": [{repeated(json.dumps(""))}]}}}}}}',
    "sizes": lambda: typed('""', f"[{repeated('1')}]"),
    "messages": lambda: f'{{"shifts": [{repeated("{}")}]}}',
    "names": lambda: f"{{{repeated(json.dumps('x') + ': 1')}}}",
    "quotes": lambda: '"' * BODY_BYTES,
    "escaped quotes": lambda: '"' + '\\"' * (BODY_BYTES // 2),
    "backslashes": lambda: '"' + "\\" * BODY_BYTES + '"',
    "blanks": lambda: f"{{{' ' * BODY_BYTES}}}",
    "deep": lambda: '{"images": ' * (BODY_BYTES // 11),
}


class Target:
    """A server process with an HTTP port."""

    def __init__(self, address: str, port: int, pid: int) -> None:
        self.address = address
        self._port = port
        self._status = Path(f"/proc/{pid}")

    def post(self, path: str, body: bytes) -> int:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request("POST", path, body)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def memory(self, name: str) -> int:
        """VmRSS, or VmHWM: its maximum since `forget_peak`."""
        return int(re.search(rf"{name}:\s+(\d+) kB", (self._status / "status").read_text())[1]) * 1024

    def forget_peak(self) -> None:
        (self._status / "clear_refs").write_text("5")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    with running(GOLDEN, log, "--log-level", "error", "--rest-port", "0") as server:
        port = listening_port(server)
        yield Target(server.address, port, server.process.pid)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("name", BODIES)
def test_a_body_takes_a_small_multiple_of_its_size(target: Target, name: str) -> None:
    attack(target, name, "/v2/models/vae.encode/infer", BODIES[name]().encode())


@pytest.mark.parametrize("name", TYPED_BODIES)
def test_so_does_one_of_protobuf_json(target: Target, name: str) -> None:
    attack(target, name, "/v1/Edit" if name == "messages" else "/v1/Encode", TYPED_BODIES[name]().encode())


def attack(target: Target, name: str, path: str, body: bytes) -> None:
    target.forget_peak()
    before = target.memory("VmRSS")
    statuses: list[int] = []
    caller = threading.Thread(target=lambda: statuses.append(target.post(path, body)))
    waits: list[float] = []
    with grpc.insecure_channel(target.address) as channel:
        decode = channel.unary_unary("/autoencoder.v1.AutoencoderService/Decode")
        decode(DECODE, timeout=60)
        begun = time.monotonic()
        caller.start()
        while caller.is_alive():
            asked = time.monotonic()
            decode(DECODE, timeout=60)
            waits.append((time.monotonic() - asked) * 1000)
    seconds = time.monotonic() - begun
    grown = target.memory("VmHWM") - before
    _LOGGER.info(
        "%s: %d in %.1f s, body %.0f MiB, memory +%.0f MiB, %.1f times; honest call median %.1f ms, at most %.1f",
        name, statuses[0], seconds, len(body) / MIB, grown / MIB, grown / len(body), np.median(waits), max(waits),
    )  # fmt: skip
    assert statuses == [400]
    assert grown < MOST_TIMES * len(body) + SLACK_BYTES
