"""Correctness under load on both transports: requests do not affect each other, none is lost."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb

from tests.server.conftest import (
    GOLDEN,
    Served,
    array,
    copy_version,
    graph_run,
    images,
    metric,
    pixels,
    serving,
    write_slow_denoiser,
)


def settled(served: Served) -> bool:
    """Whether nothing waits or runs."""
    return not metric(served, "autoencoder_queue_rows") and not metric(served, "autoencoder_requests_in_flight")


def wait_until_settled(served: Served) -> None:
    deadline = time.monotonic() + 30
    while not settled(served):
        assert time.monotonic() < deadline, "requests are stuck"
        time.sleep(0.005)


def test_a_fast_model_does_not_wait_for_a_slow_one(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    copy_version(repository, "fc-ae", 1)
    slow = pb.DenoiseRequest(model_name="slow", images=images(np.zeros((64, 32, 32, 1), np.uint8)))
    fast = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(1)))
    with serving(repository, transport=transport, max_batch_rows=64, inline_run_microseconds=1000) as served:
        backlog = [served.stub.Denoise.future(slow, timeout=120) for _ in range(40)]
        while metric(served, "autoencoder_queue_rows", model="slow") < 1600:
            time.sleep(0.001)
        answers = [served.stub.Encode(fast, timeout=10) for _ in range(50)]
        waiting = metric(served, "autoencoder_queue_rows", model="slow")
        run_microseconds = backlog[0].result().info.run_microseconds
        assert all(call.exception() is None for call in backlog)
    # All fifty were answered while the slow model's queue was still there …
    assert waiting > 0
    # … and none sat out a run of the slow model.
    waits = sorted(answer.info.queue_microseconds for answer in answers)
    assert waits[len(waits) // 2] < run_microseconds / 10


def test_a_cancel_storm_leaves_nothing_behind(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    copy_version(repository, "fc-ae", 1)
    slow = pb.DenoiseRequest(model_name="slow", images=images(np.zeros((4, 32, 32, 1), np.uint8)))
    fast = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(1)))
    generator = random.Random(5)
    with serving(repository, transport=transport) as served:
        before = threading.active_count()
        outcomes: Counter[str] = Counter()
        for _ in range(22):
            calls = [served.stub.Denoise.future(slow, timeout=30) for _ in range(25)]
            calls += [served.stub.Encode.future(fast, timeout=30) for _ in range(25)]
            time.sleep(generator.uniform(0, 0.02))
            # More than twenty resets of calls that it has not seen yet are an attack to the native transport.
            for call in generator.sample(calls, 15):
                call.cancel()
            outcomes.update(outcome(call) for call in calls)
        wait_until_settled(served)
        assert set(outcomes) == {"OK", "CANCELLED"}
        assert served.stub.Encode(fast, timeout=10).latents.data
        counted = metric(served, "autoencoder_requests_total")
        answered = metric(served, "autoencoder_requests_total", code="OK")
        # Some calls were cancelled before they arrived; those that were not are all answered.
        assert outcomes["OK"] + 1 <= answered <= counted <= 22 * 50 + 1
        assert threading.active_count() <= before + 16


def test_each_request_of_a_mixed_soak_is_answered_right_and_counted_once(transport: str) -> None:
    total, workers = 1500, 12
    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        soak = Soak(served)
        with ThreadPoolExecutor(workers) as pool:
            outcomes = Counter(pool.map(soak.call, range(total)))
        wait_until_settled(served)
        assert outcomes["wrong"] == 0
        # The soak itself has begun with one.
        outcomes["OK"] += 1
        for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"):
            assert metric(served, "autoencoder_requests_total", code=code) == outcomes[code] > 0
        assert metric(served, "autoencoder_requests_total") == total + 1
        assert metric(served, "autoencoder_request_duration_seconds_count") == total + 1


class Soak:
    """Requests of many kinds and sizes, with answers that are known."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._batch = pixels(300)
        self._codes = graph_run("encode", "vae", self._batch)[0]
        self._errors = graph_run("reconstruct", "fc-ae", self._batch)[1]
        self._drawn = self._draw(64)

    def call(self, number: int) -> str:
        """What came of one request: its status, or wrong."""
        generator = random.Random(number)
        size = generator.choice((1, 1, 1, 3, 17, 300))
        kind = generator.choice((self._encode, self._reconstruct, self._sample, self._refused, self._list))
        try:
            return "OK" if kind(size, generator) else "wrong"
        except grpc.RpcError as error:
            return error.code().name

    def _encode(self, size: int, _: random.Random) -> bool:
        answer = self._served.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(self._batch[:size])))
        return np.array_equal(array(answer.latents), self._codes[:size])

    def _reconstruct(self, size: int, _: random.Random) -> bool:
        request = pb.ReconstructRequest(
            model_name="fc-ae", images=images(self._batch[:size]), image_format=pb.IMAGE_FORMAT_NONE
        )
        return np.array_equal(array(self._served.stub.Reconstruct(request).squared_errors), self._errors[:size])

    def _sample(self, size: int, _: random.Random) -> bool:
        return np.array_equal(self._draw(min(size, 64)), self._drawn[: min(size, 64)])

    def _refused(self, size: int, generator: random.Random) -> bool:
        name = generator.choice(("nobody", "denoiser", "multitask"))
        self._served.stub.Encode(pb.EncodeRequest(model_name=name, images=images(self._batch[:size])))
        return False

    def _list(self, _: int, __: random.Random) -> bool:
        return len(self._served.stub.ListModels(pb.ListModelsRequest()).models) == 4

    def _draw(self, count: int) -> np.ndarray:
        request = pb.SampleRequest(model_name="multitask", count=count, seed=3)
        return array(self._served.stub.Sample(request).images.tensor)


def outcome(call: grpc.Future) -> str:
    """Status of a call that may have been cancelled by its caller."""
    if call.cancelled():
        return "CANCELLED"
    error = call.exception()
    return "OK" if error is None else error.code().name
