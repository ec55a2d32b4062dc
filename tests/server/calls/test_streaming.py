"""Streams: every item as if it had come alone, a slow reader harms nobody, clean ends. On both transports."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest

from tests.server.conftest import Served, copy_version, images, metric, pixels, serving, tensor, write_slow_denoiser

LATENTS = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
VAE = {"model_name": "vae"}
ITEMS: dict[str, Message] = {
    "encode": pb.EncodeRequest(**VAE, images=images(pixels(3))),
    "decode": pb.DecodeRequest(**VAE, latents=tensor(LATENTS)),
    "reconstruct": pb.ReconstructRequest(**VAE, images=images(pixels(2))),
    "denoise": pb.DenoiseRequest(model_name="denoiser", images=images(pixels(2))),
    "sample": pb.SampleRequest(**VAE, count=3, seed=7, include_latents=True),
    "interpolate": pb.InterpolateRequest(**VAE, from_images=images(pixels(1)), to_latents=tensor(LATENTS[:1]), steps=4),
    "edit": pb.EditRequest(
        **VAE, latents=tensor(LATENTS), shifts=[pb.AttributeShift(attribute="brightness", amount=1)]
    ),
    "classify": pb.ClassifyRequest(model_name="multitask", images=images(pixels(2, (8, 8, 3)))),
}
SLOW = pb.DenoiseRequest(model_name="slow", images=images(pixels(1, (32, 32, 1))))


class Sender:
    """Requests that a test sends one by one; `end` closes its side."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[pb.StreamRequest | None] = SimpleQueue()

    def send(self, name: str, **request: Message) -> None:
        self._queue.put(pb.StreamRequest(id=name, **request))

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[pb.StreamRequest]:
        return iter(self._queue.get, None)


@pytest.fixture
def slow(repository: Path, transport: str) -> Iterator[Served]:
    """A slow model, 20 ms a row at least, beside a quick one."""
    write_slow_denoiser(repository, layers=60)
    copy_version(repository, "vae", 1)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        yield served


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@pytest.mark.parametrize("name", ITEMS)
def test_item_is_answered_as_if_alone(server: Served, name: str) -> None:
    alone = getattr(server.stub, name.capitalize())(ITEMS[name])
    (answer,) = server.stub.Stream(iter([pb.StreamRequest(id="ö" * 300, **{name: ITEMS[name]})]), timeout=30)
    assert answer.id == "ö" * 300
    streamed = getattr(answer, name)
    for response in (alone, streamed):
        response.ClearField("info")
    assert streamed == alone


def test_ids_are_the_callers_affair(server: Served) -> None:
    sent = [pb.StreamRequest(id=name, encode=ITEMS["encode"]) for name in ("", "same", "same", "\0")]
    answers = list(server.stub.Stream(iter(sent), timeout=30))
    assert sorted(answer.id for answer in answers) == ["", "\0", "same", "same"]
    assert all(answer.encode.info.model_name == "vae" for answer in answers)


def test_failed_items_fail_alone_and_are_counted(server: Served) -> None:
    bad = pb.EncodeRequest(model_name="vae", images=images(pixels(1, (9, 8, 1))))
    sent = [
        pb.StreamRequest(id="good", encode=ITEMS["encode"]),
        pb.StreamRequest(id="bad", encode=bad),
        pb.StreamRequest(id="nothing"),
        pb.StreamRequest(id="unknown", decode=pb.DecodeRequest(model_name="nope")),
        pb.StreamRequest(id="lacks", denoise=pb.DenoiseRequest(model_name="vae", images=images(pixels(1)))),
        pb.StreamRequest(id="last", encode=ITEMS["encode"]),
    ]
    before = metric(server, "autoencoder_requests_total", method="Stream")
    answers = {answer.id: answer for answer in server.stub.Stream(iter(sent), timeout=30)}
    codes = {name: answer.error.code for name, answer in answers.items() if answer.HasField("error")}
    numbers = {code.name: code.value[0] for code in grpc.StatusCode}
    assert codes == {
        "bad": numbers["INVALID_ARGUMENT"],
        "nothing": numbers["INVALID_ARGUMENT"],
        "unknown": numbers["NOT_FOUND"],
        "lacks": numbers["FAILED_PRECONDITION"],
    }
    violations = BadRequest()
    assert answers["bad"].error.details[0].Unpack(violations)
    assert violations.field_violations[0].field == "images.tensor.shape"
    assert metric(server, "autoencoder_requests_total", method="Stream") == before + len(sent)


def test_garbage_fails_alone(server: Served) -> None:
    call = server.channel.stream_stream("/autoencoder.v1.AutoencoderService/Stream")
    good = pb.StreamRequest(id="good", encode=ITEMS["encode"]).SerializeToString()
    answers = [pb.StreamResponse.FromString(data) for data in call(iter([b"\xff\xff", good]), timeout=30)]
    assert {answer.id: answer.WhichOneof("response") for answer in answers} == {"": "error", "good": "encode"}


def test_empty_stream_ends(server: Served) -> None:
    assert list(server.stub.Stream(iter([]), timeout=30)) == []


def test_quick_item_overtakes_a_slow_one(slow: Served) -> None:
    # A second at least, in which a busy machine gets to the other one.
    large = pb.DenoiseRequest(model_name="slow", images=images(pixels(64, (32, 32, 1))))
    sent = [pb.StreamRequest(id="slow", denoise=large), pb.StreamRequest(id="quick", encode=ITEMS["encode"])]
    assert [answer.id for answer in slow.stub.Stream(iter(sent), timeout=30)] == ["quick", "slow"]


def test_slow_reader_holds_back_its_own_stream_alone(server: Served) -> None:
    count = 4000
    large = pb.ReconstructRequest(model_name="vae", images=images(pixels(64)), image_format=pb.IMAGE_FORMAT_FLOAT32)
    before = metric(server, "autoencoder_requests_total", method="Stream")
    unread = server.stub.Stream(pb.StreamRequest(id=str(i), reconstruct=large) for i in range(count))

    def taken() -> float:
        return metric(server, "autoencoder_requests_total", method="Stream") - before

    def held() -> bool:
        earlier = taken()
        time.sleep(0.2)
        return 0 < earlier == taken()

    wait_for(held)
    assert taken() < count / 2
    # What was taken in has run: rows that waited for this reader would count against others.
    wait_for(lambda: metric(server, "autoencoder_queue_rows", model="vae") == 0)
    # Others are served meanwhile, streams and calls, on the same connection.
    assert len(list(server.stub.Stream(iter([pb.StreamRequest(encode=ITEMS["encode"])] * 9), timeout=30))) == 9
    assert server.stub.Encode(ITEMS["encode"], timeout=30).latents.data
    assert sorted(int(answer.id) for answer in unread) == list(range(count))


def test_requests_under_way_of_a_stream_are_limited(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository, layers=60)
    settings = {"max_stream_requests": 3, "max_batch_rows": 1, "concurrent_runs": 1}
    with serving(repository, transport=transport, poll_seconds=0, **settings) as served:
        under_way = [
            metric(served, "autoencoder_requests_in_flight", method="Stream")
            for _ in served.stub.Stream((pb.StreamRequest(denoise=SLOW) for _ in range(12)), timeout=60)
        ]
        assert len(under_way) == 12
        assert 0 < max(under_way) <= 3


def test_cancelled_stream_leaves_nothing_behind(slow: Served) -> None:
    sender = Sender()
    call = slow.stub.Stream(iter(sender))
    for index in range(50):
        sender.send(str(index), denoise=SLOW)
    # On a busy machine the first answer may come before the second request has left.
    wait_for(lambda: metric(slow, "autoencoder_requests_in_flight", method="Stream") > 10)
    next(call)
    call.cancel()
    sender.end()
    wait_for(lambda: metric(slow, "autoencoder_requests_in_flight", method="Stream") == 0)
    assert metric(slow, "autoencoder_queue_rows", model="slow") == 0
    codes = {
        code: metric(slow, "autoencoder_requests_total", method="Stream", code=code) for code in ("OK", "CANCELLED")
    }
    assert codes["CANCELLED"] > 0
    assert metric(slow, "autoencoder_requests_total", method="Stream") == sum(codes.values()) <= 50


def test_deadline_ends_stream_and_items(slow: Served) -> None:
    sender = Sender()
    call = slow.stub.Stream(iter(sender), timeout=0.3)
    for index in range(50):
        sender.send(str(index), denoise=SLOW)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    sender.end()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: metric(slow, "autoencoder_requests_in_flight", method="Stream") == 0)
    assert metric(slow, "autoencoder_requests_total", method="Stream", code="CANCELLED") == 0


def test_drain_answers_what_came_and_ends_the_stream(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository, layers=60)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        sender = Sender()
        call = served.stub.Stream(iter(sender))
        for index in range(5):
            sender.send(str(index), denoise=SLOW)
        wait_for(lambda: metric(served, "autoencoder_requests_total", method="Stream") > 0)
        wait_for(lambda: metric(served, "autoencoder_queue_rows", model="slow") < 4)
        stopper = threading.Thread(target=served.app.stop)
        stopper.start()
        answers = []
        with pytest.raises(grpc.RpcError) as caught:
            answers.extend(call)
        stopper.join(20)
        sender.end()
        served.app.stop = lambda: None  # it has stopped already
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "stopping" in caught.value.details()
    assert sorted(answer.id for answer in answers) == list("01234")
