"""Failed runs: the request may be at fault, or the session."""

import threading
from pathlib import Path

import grpc
import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from onnx import helper, numpy_helper

from tests.server.conftest import (
    Served,
    copy_version,
    images,
    metric,
    pixels,
    serving,
    write_graph,
    write_slow_denoiser,
)
from tests.server.models.test_manager import eventually, version

LOADS = "autoencoder_model_loads_total"


def fragile(repository: Path, name: str) -> None:
    """A denoiser whose run fails when a pixel of the batch is 1."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["highest"], keepdims=0),
        helper.make_node("Floor", ["highest"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["index"], to=7),
        helper.make_node("Gather", ["zero", "index"], ["nothing"]),
        helper.make_node("Add", ["images", "nothing"], ["denoised"]),
    ]
    write_graph(repository, name, 1, nodes, [numpy_helper.from_array(np.zeros(1, np.float32), "zero")])


def wait_for_retests(served: Served) -> None:
    """Wait until every retest has ended and its result has been acted on."""
    served.app.manager.load("fragile")
    eventually(lambda: all(thread.name != "retest" for thread in threading.enumerate()))
    served.app.manager.load("fragile")


def test_a_failing_request_fails_no_other_and_leaves_its_version_in_service(repository: Path, transport: str) -> None:
    fragile(repository, "fragile")
    copy_version(repository, "fc-ae", 1)
    good = np.full((1, 32, 32, 1), 0.5, np.float32)

    def denoise(batch: np.ndarray) -> grpc.Future:
        return served.stub.Denoise.future(pb.DenoiseRequest(model_name="fragile", images=images(batch)), timeout=20)

    with serving(repository, transport=transport, max_queue_delay_ms=50, max_batch_rows=8) as served:
        calls = [denoise(good), denoise(np.ones_like(good)), denoise(good)]
        assert calls[0].exception() is None
        assert calls[2].exception() is None
        assert calls[1].exception().code() is grpc.StatusCode.INTERNAL
        for _ in range(20):
            failing = denoise(np.ones_like(good))
            assert denoise(good).exception() is None
            assert failing.exception().code() is grpc.StatusCode.INTERNAL
        wait_for_retests(served)
        assert metric(served, "autoencoder_model_loads_total", model="fragile") == 1
        assert metric(served, "autoencoder_model_ready", model="fragile") == 1
        assert version(served) == "1"


def test_a_session_that_fails_its_self_test_is_replaced(repository: Path, transport: str) -> None:
    copy_version(repository, "fc-ae", 1)
    copy_version(repository, "vae", 1)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        before = served.app.table.get("vae", "")
        # From now on onnxruntime refuses every run of its sessions.
        before.interrupt.set()
        request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))
        assert served.stub.Encode.future(request, timeout=20).exception().code() is grpc.StatusCode.INTERNAL
        eventually(lambda: metric(served, "autoencoder_model_loads_total", model="vae", result="ok") == 2)
        eventually(lambda: metric(served, "autoencoder_model_ready", model="vae") == 1)
        assert served.app.table.get("vae", "") is not before
        assert served.stub.Encode(request, timeout=20).latents.data
        assert metric(served, "autoencoder_model_loads_total", model="fc-ae") == 1


def test_a_dead_session_is_replaced_once_however_many_requests_it_failed(repository: Path) -> None:
    write_slow_denoiser(repository, "fragile", layers=1)
    bad = np.ones((1, 32, 32, 1), np.float32)
    with serving(repository, transport="grpcio", poll_seconds=0, max_batch_rows=1) as served:
        served.app.table.get("fragile", "").interrupt.set()
        stop = threading.Event()
        # The thread that loads is busy while the failures come in.
        served.app.manager._executor.submit(lambda: stop.wait(10))
        request = pb.DenoiseRequest(model_name="fragile", images=images(bad))
        calls = [served.stub.Denoise.future(request, timeout=20) for _ in range(10)]
        assert {call.exception().code() for call in calls} == {grpc.StatusCode.INTERNAL}
        stop.set()
        eventually(lambda: metric(served, LOADS, model="fragile", result="ok") == 2)
        wait_for_retests(served)
        assert metric(served, LOADS, model="fragile", result="ok") == 2
