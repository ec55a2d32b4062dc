"""The watchdog: graphs that do not end at load, in a run, and when the server stops."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from tests.server.conftest import Served, copy_version, images, metric, pixels, serving
from tests.server.hanging_graph import hang_in_self_test, write_hanging_denoiser
from tests.server.models.test_manager import eventually, readyz, version
from tests.server.test_main import cpu_seconds, probe, program

LOADS = "autoencoder_model_loads_total"
WHITE = pb.DenoiseRequest(model_name="hanging", images=images(np.full((1, 32, 32, 1), 255, np.uint8)))
GREY = pb.DenoiseRequest(model_name="hanging", images=images(np.full((1, 32, 32, 1), 128, np.uint8)))
OTHER = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(1)))
# Limit of any wait here; a hang takes longer.
PATIENCE_SECONDS = 60


@pytest.fixture
def stuck(repository: Path) -> Path:
    """A repository whose first model's self-test does not end, and a good one."""
    write_hanging_denoiser(repository, "a-hanging")
    hang_in_self_test(repository, "a-hanging")
    copy_version(repository, "fc-ae", 1)
    return repository


def test_a_self_test_that_does_not_end_is_abandoned(stuck: Path, transport: str) -> None:
    with serving(stuck, transport=transport, poll_seconds=0.1, load_timeout_seconds=3) as served:
        eventually(lambda: metric(served, LOADS, model="a-hanging", result="timed_out") == 1, PATIENCE_SECONDS)
        eventually(lambda: metric(served, LOADS, model="fc-ae", result="ok") == 1, PATIENCE_SECONDS)
        assert "a-hanging version 1: its load has taken longer than 3 s" in readyz(served)[1]
        copy_version(stuck, "fc-ae", 2)
        eventually(lambda: version(served) == "2", PATIENCE_SECONDS)
        # It is left alone until its files change.
        assert metric(served, LOADS, model="a-hanging") == 1


def test_other_models_load_and_change_during_a_load_that_does_not_end(stuck: Path, transport: str) -> None:
    with serving(stuck, scanned=False, transport=transport, poll_seconds=0.1, load_timeout_seconds=3600) as served:
        eventually(lambda: "fc-ae" in served.app.table.snapshot.models, PATIENCE_SECONDS)
        assert version(served) == "1"
        assert metric(served, LOADS, model="fc-ae", result="ok") == 1
        copy_version(stuck, "fc-ae", 2)
        eventually(lambda: version(served) == "2", PATIENCE_SECONDS)
        assert metric(served, LOADS, model="a-hanging") == 0
        # A load is cancelled when its files are deleted.
        shutil.rmtree(stuck / "a-hanging")
        eventually(lambda: metric(served, LOADS, model="a-hanging", result="stopped") == 1, PATIENCE_SECONDS)
        eventually(lambda: readyz(served) == (200, "1 versions serve on CPUExecutionProvider\n"), PATIENCE_SECONDS)


@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_a_run_that_does_not_end_is_abandoned(repository: Path, transport: str, *, inline: bool) -> None:
    write_hanging_denoiser(repository)
    copy_version(repository, "fc-ae", 1)
    settings = {"run_timeout_seconds": 3, "inline_run_microseconds": 1e6 * inline, "concurrent_runs": 1}
    with serving(repository, transport=transport, poll_seconds=0, **settings) as served:
        hangs = served.stub.Denoise.future(WHITE, timeout=PATIENCE_SECONDS)
        eventually(lambda: served.app.table.get("hanging", "").busy, PATIENCE_SECONDS)
        waits = [served.stub.Denoise.future(GREY, timeout=PATIENCE_SECONDS) for _ in range(3)]
        if not inline:
            # Long enough to reach the server, and shorter than the time limit of a run.
            waits.append(served.stub.Denoise.future(GREY, timeout=2))
            for _ in range(20):
                assert served.stub.Encode(OTHER, timeout=PATIENCE_SECONDS).latents.data
            assert waits[-1].exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert hangs.exception().code() is grpc.StatusCode.UNAVAILABLE
        assert "longer than 3 s" in hangs.exception().details()
        # On the transport's own thread they come in only now, and may find the version gone or reloaded.
        assert {call.code().name for call in waits[:3]} <= {"UNAVAILABLE"} | ({"OK"} if inline else set())
        eventually(lambda: metric(served, LOADS, model="hanging", result="ok") == 2, PATIENCE_SECONDS)
        eventually(lambda: metric(served, "autoencoder_model_ready", model="hanging") == 1, PATIENCE_SECONDS)
        assert served.stub.Denoise(GREY, timeout=PATIENCE_SECONDS).images
        assert served.stub.Encode(OTHER, timeout=PATIENCE_SECONDS).latents.data
        counts_agree(served, [hangs, *waits], 2 if inline else 22)


def counts_agree(served: Served, calls: list[grpc.Future], answered: int) -> None:
    """Each call is counted once, with the code that its caller has seen; others were `answered`."""
    # A caller whose deadline passes first cancels the call as the server sees it.
    seen = Counter(call.code().name.replace("DEADLINE_EXCEEDED", "CANCELLED") for call in calls)
    seen["OK"] += answered
    eventually(lambda: metric(served, "autoencoder_requests_in_flight") == 0)
    name = "autoencoder_requests_total"
    counted = Counter({code: metric(served, name, code=code) for code in seen})
    counted["CANCELLED"] += metric(served, name, code="DEADLINE_EXCEEDED")
    assert counted == seen
    assert metric(served, name) == seen.total()


@pytest.mark.slow
@pytest.mark.parametrize("inline", [False, True], ids=["worker", "inline"])
def test_a_version_whose_run_cannot_be_interrupted_is_reloaded_after_it(repository: Path, *, inline: bool) -> None:
    """onnxruntime cannot interrupt a single step: no other session of the version is made until it has ended."""
    write_hanging_denoiser(repository, steps=False)
    copy_version(repository, "fc-ae", 1)
    settings = {"run_timeout_seconds": 1, "inline_run_microseconds": 1e6 * inline, "concurrent_runs": 1}
    with serving(repository, transport="native", poll_seconds=0, **settings) as served:
        hangs = served.stub.Denoise.future(WHITE, timeout=PATIENCE_SECONDS)
        assert hangs.exception().code() is grpc.StatusCode.UNAVAILABLE
        assert "longer than 1 s" in hangs.exception().details()
        eventually(lambda: "hanging version 1: a run has taken longer than 1 s" in readyz(served)[1])
        assert metric(served, LOADS, model="hanging") == 1
        if inline:
            # Other models serve, but cannot be reached.
            assert readyz(served)[0] == 503
        else:
            refused = served.stub.Denoise.future(GREY, timeout=PATIENCE_SECONDS).exception()
            assert refused.code() is grpc.StatusCode.UNAVAILABLE
            assert served.stub.Encode(OTHER, timeout=PATIENCE_SECONDS).latents.data
        eventually(lambda: metric(served, LOADS, model="hanging", result="ok") == 2, 4 * PATIENCE_SECONDS)
        eventually(lambda: readyz(served) == (200, "2 versions serve on CPUExecutionProvider\n"))
        assert served.stub.Denoise(GREY, timeout=PATIENCE_SECONDS).images


@pytest.mark.parametrize(("steps", "code"), [(True, 0), (False, 3)], ids=["many steps", "one step"])
def test_a_run_that_does_not_end_does_not_delay_the_exit(
    repository: Path, transport: str, *, steps: bool, code: int
) -> None:
    write_hanging_denoiser(repository, steps=steps, scale=2)
    arguments = ("--repository", str(repository), "--transport", transport, "--drain-seconds", "0.5")
    with program(*arguments) as (process, address, metrics), grpc.insecure_channel(address) as channel:
        hangs = hang(process, metrics, channel)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == code
        # Alone it takes less than five; the run would take a minute and more.
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
        assert hangs.exception().code() is grpc.StatusCode.UNAVAILABLE


def test_a_second_sigterm_ends_the_drain(repository: Path, transport: str) -> None:
    write_hanging_denoiser(repository)
    with (
        program("--repository", str(repository), "--transport", transport) as (process, address, metrics),
        grpc.insecure_channel(address) as channel,
    ):
        hang(process, metrics, channel)
        process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in probe(metrics, "/readyz")[1], PATIENCE_SECONDS)
        started = time.monotonic()
        # Sent right after the first one it would be merged with it.
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 3
        # The drain alone would take thirty.
        assert time.monotonic() - started < 15


def hang(process: subprocess.Popen[str], metrics: str, channel: grpc.Channel) -> grpc.Future:
    """A call that has begun to hang, as the processor time of its server tells."""
    # It listens after five seconds whatever its models do, which a busy machine may take to load them.
    eventually(lambda: probe(metrics, "/readyz")[0] == 200, PATIENCE_SECONDS)
    call = autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Denoise.future(WHITE, timeout=PATIENCE_SECONDS)
    before = cpu_seconds(process.pid)
    eventually(lambda: cpu_seconds(process.pid) > before + 0.5, PATIENCE_SECONDS)
    return call
