"""How graphs are run, from times like those that were measured."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, TypeVar

import onnxruntime
import pytest
from autoencoder.v1.model_pb2 import Signature
from numpy.typing import NDArray

from bundle import layout
from server.batching.policy import Profiler, choose_policy, profile
from server.execution_config import BatchingConfig
from server.runtime.session import Session
from tests.server.conftest import GOLDEN

S = TypeVar("S", bound=Session)
# Seconds a run by rows, of a dense encoder and of a convolutional denoiser on one core.
DENSE = {1: 22e-6, 8: 28e-6, 64: 81e-6, 256: 264e-6, 1024: 942e-6}
CONVOLUTIONAL = {1: 216e-6, 4: 800e-6, 8: 1592e-6, 16: 3180e-6, 32: 6350e-6, 64: 13042e-6}

PAUSE_SECONDS = 0.05


class Slow(Session):
    """A real session whose runs are held up, as by other programs on its core."""

    def run(self, rows: NDArray[Any]) -> Sequence[NDArray[Any]]:
        time.sleep(PAUSE_SECONDS)
        return super().run(rows)


class Hanging(Session):
    """A real session whose runs end when the test says so."""

    def __init__(self, session: Any, signature: Signature) -> None:
        super().__init__(session, signature)
        self.began, self.ends = Event(), Event()

    def run(self, rows: NDArray[Any]) -> Sequence[NDArray[Any]]:
        self.began.set()
        assert self.ends.wait(20)
        return super().run(rows)


def open_session(kind: type[S]) -> S:
    """An encoder."""
    signature = next(entry for entry in layout.read_model(GOLDEN / "vae" / "1").signatures if entry.name == "encode")
    graph = (GOLDEN / "vae" / "1" / signature.file).read_bytes()
    return kind(onnxruntime.InferenceSession(graph), signature)


def test_a_dense_graph_runs_inline_in_large_batches() -> None:
    policy = choose_policy(DENSE, BatchingConfig(), cores=2)
    assert (policy.inline, policy.concurrent_runs, policy.max_rows, policy.shared_rows) == (True, 1, 1024, 256)
    assert policy.seconds_per_row == pytest.approx(942e-6 / 1024)


def test_a_convolutional_graph_runs_on_workers_in_small_batches() -> None:
    policy = choose_policy(CONVOLUTIONAL, BatchingConfig(), cores=2)
    assert (policy.inline, policy.concurrent_runs, policy.max_rows, policy.shared_rows) == (False, 2, 8, 1)


def test_a_run_that_is_always_long_takes_one_row() -> None:
    assert choose_policy({1: 0.05, 8: 0.4}, BatchingConfig(), cores=4).max_rows == 1


def test_settings_overrule_what_was_measured() -> None:
    config = BatchingConfig(max_batch_rows=32, concurrent_runs=3, inline_run_microseconds=1000)
    policy = choose_policy(CONVOLUTIONAL, config, cores=2)
    assert (policy.inline, policy.concurrent_runs, policy.max_rows) == (True, 3, 32)


def test_batches_never_exceed_what_export_tested() -> None:
    assert choose_policy({1: 1e-5, 8: 2e-5}, BatchingConfig(max_batch_rows=500), cores=2).max_rows == 8


def test_a_batch_that_waits_to_fill_waits_on_a_worker() -> None:
    policy = choose_policy(DENSE, BatchingConfig(max_queue_delay_ms=5), cores=2)
    assert (policy.inline, policy.max_delay_seconds) == (False, 0.005)


def test_what_others_take_of_the_time_is_not_the_graphs() -> None:
    session = open_session(Slow)
    buckets = (1, 8)
    assert min(profile(session, buckets, alone=False).values()) >= PAUSE_SECONDS
    assert max(profile(session, buckets, alone=True).values()) < PAUSE_SECONDS


def test_one_graph_is_profiled_at_a_time_and_one_that_hangs_keeps_no_other_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.batching.policy._TURN_SECONDS", 0.2)
    profiler = Profiler()
    hanging, other, brief = open_session(Hanging), open_session(Slow), open_session(Session)
    with ThreadPoolExecutor(1) as pool:
        hangs = pool.submit(profiler.profile, hanging, [1], alone=False)
        assert hanging.began.wait(20)
        started = time.monotonic()
        assert profiler.profile(other, [1], alone=False).keys() == {1}
        assert time.monotonic() - started >= 0.2
        monkeypatch.setattr("server.batching.policy._TURN_SECONDS", 3600)
        monkeypatch.setattr("server.batching.policy._CONCURRENT_RUN_SECONDS", 60)
        assert profiler.profile(brief, [1], alone=True).keys() == {1}
        hanging.ends.set()
        assert hangs.result(20).keys() == {1}
    # The turn has been given back.
    assert not profiler._lock.locked()
