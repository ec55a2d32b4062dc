"""Messages of less than half a megabyte that cost much to parse or check, beside a caller that decodes one vector."""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from threading import Condition

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2 as oip

from examples.local_server import LocalServer, running
from tests.reliability.resources import counted
from tests.server.conftest import GOLDEN, images, pixels, tensor

_LOGGER = logging.getLogger(__name__)
SCALE = int(os.environ.get("TEST_SCALE", "1"))
# Honest calls beside each attack.
CALLS = 50 if SCALE > 1 else 3
OPEN_CALLS = [1, 24] if SCALE > 1 else [24]
HONEST, HOSTILE = "well-behaved-caller", "hostile-caller-0001"
TYPED, OPEN = "/autoencoder.v1.AutoencoderService/", "/inference.GRPCInferenceService/"
DECODE = pb.DecodeRequest(model_name="vae", latents=tensor(np.zeros((1, 3), np.float32))).SerializeToString()


def edit(shifts: int) -> pb.EditRequest:
    shift = pb.AttributeShift(attribute="brightness", amount=1e-6)
    return pb.EditRequest(model_name="vae", images=images(pixels(1)), shifts=[shift] * shifts)


def infer(**fields: list[bytes]) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="vae.encode", **fields)
    request.inputs.add(name="images", datatype="UINT8", shape=(1, 8, 8, 1))
    return request


def shaped(sizes: int) -> oip.ModelInferRequest:
    request = infer(raw_input_contents=[bytes(64)])
    request.inputs[0].shape.extend([1] * sizes)
    return request


def parameters(count: int) -> oip.ModelInferRequest:
    request = infer(raw_input_contents=[bytes(64)])
    for number in range(count):
        request.inputs[0].parameters[str(number)].bool_param = True
    return request


def files(count: int) -> pb.EncodeRequest:
    return pb.EncodeRequest(model_name="vae", images=pb.Images(encoded=pb.EncodedImages(files=[b""] * count)))


def typed(elements: int) -> oip.ModelInferRequest:
    request = infer()
    request.inputs[0].shape[0] = elements // 64
    request.inputs[0].contents.uint_contents.extend([5] * elements)
    return request


def typed_shape(sizes: int) -> pb.EncodeRequest:
    tensor_of_ones = pb.Tensor(data_type=1, shape=[1] * sizes, data=bytes(64))
    return pb.EncodeRequest(model_name="vae", images=pb.Images(tensor=tensor_of_ones))


# The last costs only its way through the transport.
ATTACKS = {
    "shifts": (f"{TYPED}Edit", edit(27_000), "INVALID_ARGUMENT"),
    "allowed shifts": (f"{TYPED}Edit", edit(1024), "OK"),
    "shape": (f"{OPEN}ModelInfer", shaped(500_000), "INVALID_ARGUMENT"),
    "typed shape": (f"{TYPED}Encode", typed_shape(500_000), "INVALID_ARGUMENT"),
    "parameters": (f"{OPEN}ModelInfer", parameters(40_000), "INVALID_ARGUMENT"),
    "raw contents": (f"{OPEN}ModelInfer", infer(raw_input_contents=[b""] * 250_000), "INVALID_ARGUMENT"),
    "files": (f"{TYPED}Encode", files(250_000), "INVALID_ARGUMENT"),
    "typed contents": (f"{OPEN}ModelInfer", typed(1024 * 64), "OK"),
    "bytes": (f"{OPEN}ModelInfer", infer(raw_input_contents=[bytes(500_000)]), "INVALID_ARGUMENT"),
}


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("attacks")
    tokens = folder / "tokens"
    tokens.write_text("".join(f"inference {token}\n" for token in (HONEST, HOSTILE)))
    flags = ("--token-file", str(tokens), "--max-queue-rows", "65536", "--log-level", "error")
    with running(GOLDEN, folder / "server.log", "--transport", request.param, *flags) as started:
        yield started


def _as(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


class Attack:
    """Keeps `open_calls` calls open until it is over, and counts how they end."""

    def __init__(self, address: str, path: str, payload: bytes, open_calls: int) -> None:
        self.codes: Counter[str] = Counter()
        self._payload = payload
        self._ended = Condition()
        self._open = 0
        self._over = False
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._call = self._channel.unary_unary(path)
        for _ in range(open_calls):
            self._start()

    def end(self) -> None:
        with self._ended:
            self._over = True
            assert self._ended.wait_for(lambda: self._open == 0, 120)
        self._channel.close()

    def _start(self) -> None:
        with self._ended:
            self._open += 1
        self._call.future(self._payload, 120, _as(HOSTILE)).add_done_callback(self._done)

    def _done(self, call: grpc.Future) -> None:
        with self._ended:
            self.codes[call.code().name] += 1
            self._open -= 1
            self._ended.notify()
            again = not self._over
        if again:
            self._start()


@pytest.mark.parametrize("open_calls", OPEN_CALLS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_small_caller_is_served_beside_heavy_fields(server: LocalServer, name: str, open_calls: int) -> None:
    path, message, expected = ATTACKS[name]
    payload = message.SerializeToString()
    assert len(payload) < 512 * 1024
    before = counted(server)
    attack = Attack(server.address, path, payload, open_calls)
    waits: list[float] = []
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        decode = channel.unary_unary(f"{TYPED}Decode")
        for _ in range(CALLS):
            begun = time.monotonic()
            decode(DECODE, 60, _as(HONEST))
            waits.append((time.monotonic() - begun) * 1000)
    attack.end()
    _LOGGER.info(
        "%s, %d B, %d at a time: honest median %.1f ms, at most %.1f; %s",
        name, len(payload), open_calls, np.median(waits), max(waits), dict(attack.codes),
    )  # fmt: skip
    assert set(attack.codes) == {expected}
    after = counted(server)
    ended = {code: after[code] - before.get(code, 0) for code in after}
    assert ended.get("INTERNAL", 0) == 0
    assert ended["OK"] == CALLS + attack.codes["OK"]
