"""Graceful shutdown: in time, with every call counted with the status that its client got."""

import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2, open_inference_pb2_grpc

from tests.server.conftest import GOLDEN, copy_version, images, metric, serving, write_slow_denoiser
from tests.server.models.test_manager import eventually

BATCH = images(np.zeros((64, 32, 32, 1), np.uint8))


def test_the_drain_has_an_end(repository: Path, transport: str) -> None:
    write_slow_denoiser(repository)
    settings = {"max_batch_rows": 1, "concurrent_runs": 1, "drain_seconds": 0.2}
    with serving(repository, transport=transport, poll_seconds=0, **settings) as served:
        calls = [served.stub.Denoise.future(pb.DenoiseRequest(images=BATCH), timeout=300) for _ in range(40)]
        eventually(lambda: metric(served, "autoencoder_queue_rows") > 2000)
        started = time.monotonic()
        served.app.stop()
        # Forty batches take ten times as long.
        assert time.monotonic() - started < 6
        served.app.stop = lambda: None  # it has stopped already
        codes = [call.exception().code().name if call.exception() else "OK" for call in calls]
        assert set(codes) <= {"OK", "UNAVAILABLE"}
        for code in ("OK", "UNAVAILABLE"):
            assert metric(served, "autoencoder_requests_total", code=code) == codes.count(code)
        dropped = metric(served, "autoencoder_dropped_rows_total", reason="draining")
        assert dropped > 0
        assert dropped == metric(served, "autoencoder_dropped_rows_total")


@pytest.mark.parametrize("late", [False, True])
def test_a_load_under_way_does_not_hold_up_the_end(repository: Path, *, late: bool) -> None:
    write_slow_denoiser(repository, layers=2)
    with serving(repository, transport="grpcio", poll_seconds=0) as served:
        answer: list[object] = []

        def load() -> None:
            try:
                answer.append(served.app.manager.load("slow"))
            except Exception as error:  # noqa: BLE001 (the test looks at it)
                answer.append(error)

        gate = threading.Event()
        served.app.manager._executor.submit(lambda: gate.wait(8))
        thread = threading.Thread(target=load)
        if not late:
            thread.start()
        started = time.monotonic()
        served.app.stop()
        assert time.monotonic() - started < 5
        if late:
            thread.start()
        thread.join(5)
        gate.set()
        served.app.stop = lambda: None
    assert "stopping" in str(answer[0])


def test_who_drains_still_says_that_it_lives(transport: str) -> None:
    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        served.app._endpoint.drain()
        served.app._readiness.stop()
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(served.channel)
        assert stub.ServerLive(open_inference_pb2.ServerLiveRequest(), timeout=10).live
        assert not stub.ServerReady(open_inference_pb2.ServerReadyRequest(), timeout=10).ready
        refused = served.stub.ListModels.future(pb.ListModelsRequest(), timeout=10).exception()
        assert refused.code() is grpc.StatusCode.UNAVAILABLE


def test_sigterm_while_models_load_ends_the_process_in_order(tmp_path: Path) -> None:
    for number in range(60):
        name = f"vae-{number}"
        version = copy_version(tmp_path / "made", "vae", 1, partial(dict.update, name=name))
        (tmp_path / "models" / name).mkdir(parents=True)
        version.rename(tmp_path / "models" / name / "1")
    command = [sys.executable, "-m", "server", "--repository", str(tmp_path / "models"), "--port", "0"]
    with subprocess.Popen([*command, "--metrics-port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            first = next(line for line in process.stderr if " serves on " in line)
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait(60) == 0, rest
        finally:
            process.kill()
    # It did not load them all first.
    assert (first + rest).count(" serves on ") < 60
