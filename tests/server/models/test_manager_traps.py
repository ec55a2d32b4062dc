"""What a repository and a machine can do to the manager: reasons without end, no more threads, a folder that goes."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from inference import open_inference_pb2
from inference.open_inference_pb2_grpc import GRPCInferenceServiceStub

from bundle.errors import BundleError
from server.models import manager, retest
from server.models.lifecycle import State
from server.models.readiness import ReadinessCheck
from tests.server.conftest import copy_version, images, pixels, serving
from tests.server.models.test_manager import FAST_POLL, eventually, readyz, version
from tests.server.models.test_manager_states import Bench
from tests.server.models.test_manager_states import bench as bench  # noqa: PLC0414 (a fixture)


@contextmanager
def no_more_threads() -> Iterator[None]:
    """Have every thread start fail, as at the limit of a container: no stack of this size can be had."""
    threading.stack_size(2**46)
    try:
        yield
    finally:
        threading.stack_size(0)


def test_reasons_are_bounded_in_number_and_length(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_version(repository, "fc-ae", 1)
    for number in range(1, 15):
        folder = repository / "vae" / str(number)
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(f'{{"\x7f{"x" * 100_000}": 1}}')
    with serving(repository, **FAST_POLL) as served:
        text = readyz(served)[1]
        assert "vae version 14: " in text
        assert text.endswith("; and 4 more\n")
        assert len(text) < 10 * 400
        stub = GRPCInferenceServiceStub(served.channel)
        models = stub.RepositoryIndex(open_inference_pb2.RepositoryIndexRequest()).models
        assert [each.version for each in models] == ["1", *map(str, range(5, 15)), ""]
        assert models[-1].reason == "and 4 more versions do not serve"
        assert max(len(each.reason) for each in models) == 300
        with pytest.raises(grpc.RpcError) as failed:
            served.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(pixels(1))), timeout=20)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert len(failed.value.details()) < 10 * 400
        assert len(served.app.manager.load("vae") or "") < 10 * 400
        assert version(served) == "1"
    assert max(len(record.getMessage()) for record in caplog.records) < 400
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_load_that_gets_no_thread_is_retried(repository: Path) -> None:
    with serving(repository, poll_seconds=0) as served:
        copy_version(repository, "fc-ae", 1)
        with no_more_threads():
            served.app.manager.rescan()
            eventually(lambda: bool(served.app.table.snapshot.unavailable))
            failed = served.app.table.snapshot.unavailable["fc-ae", 1]
        assert failed.state is State.BACKING_OFF
        assert "raise the limit of threads" in failed.reason
        eventually(lambda: bool(served.app.table.snapshot.models))
        assert version(served) == "1"


def test_a_retest_that_gets_no_thread_is_repeated(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retest, "_INTERVAL_SECONDS", 0.0)
    tests: list[int] = []
    bench.loader.self_test = lambda: tests.append(1)
    bench.start()
    report = bench.loader.on_run_failed[0]
    with no_more_threads():
        report(ValueError("bad pixel"), certain=False)
        eventually(lambda: "could not be tested" in caplog.text)
    # Nothing is known of the session: it stays.
    assert (bench.serving(), tests, bench.loader.started) == ({1}, [], [1])
    eventually(lambda: bool(report(ValueError("bad pixel"), certain=False) or tests))
    assert bench.serving() == {1}


def test_a_repository_that_goes_while_it_is_first_loaded_is_named(bench: Bench) -> None:
    bench.loader.gates[1] = threading.Event()
    readiness = ReadinessCheck(bench.table, strict=False)
    bench.manager.start()
    eventually(lambda: bench.states() == {1: State.LOADING})
    bench.folder.rename(bench.folder.with_name("away"))
    starting = "starting: models are being loaded; the repository is not a directory"
    eventually(lambda: readiness.check().reason == starting)
    bench.loader.gates[1].set()
    assert bench.manager.wait_scanned(20)
    assert bench.serving() == {1}
    assert "; the repository is not a directory" in readiness.check().reason
    bench.folder.with_name("away").rename(bench.folder)
    eventually(lambda: "directory" not in readiness.check().reason)


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "none", "latest")
    bench.start()
    reason = ReadinessCheck(bench.table, strict=False).check().reason
    assert reason == "no model serves: the repository is not a directory"
    bench.manager.close()


def test_a_load_cut_short_by_an_unload_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # The unload does not wait for as long as the manager is patient.
    monkeypatch.setattr(manager, "_LOAD_PATIENCE_SECONDS", 60.0)
    bench.start()
    bench.loader.gates[2] = threading.Event()
    bench.publish(2)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(bench.manager.load, "vae")
        eventually(lambda: bench.states() == {2: State.LOADING})
        bench.manager.unload("vae")
        assert load.result(20) == "it was unloaded while it was being loaded"
    assert bench.loader.cancelled == [2]
    assert bench.table.snapshot.unloaded == {"vae"}


def test_a_model_that_was_unloaded_and_deleted_leaves_the_index(bench: Bench) -> None:
    bench.start()
    bench.manager.unload("vae")
    assert bench.table.snapshot.unloaded == {"vae"}
    shutil.rmtree(bench.folder / "vae")
    eventually(lambda: not bench.table.snapshot.unloaded)
    assert not bench.manager.knows("vae")
    # It is remembered all the same.
    bench.publish(1)
    eventually(lambda: bench.table.snapshot.unloaded == {"vae"})
    assert bench.manager.load("vae") is None
    assert bench.serving() == {1}


def test_a_model_with_many_versions_to_load_delays_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "_TURN_SECONDS", 0.0)
    bench.loader.failures = {number: BundleError("wrong") for number in range(2, 30)}
    for number in range(2, 30):
        bench.publish(number)
    # It comes last, and is tried while the first model still has versions left.
    shutil.copytree(bench.folder / "vae" / "1", bench.folder / "zebra" / "100")
    bench.start()
    assert bench.loader.started[:2] == [29, 100]
    assert bench.serving() == {1}
    assert set(bench.table.snapshot.models) == {"vae", "zebra"}
    bench.loader.started.clear()
    assert bench.manager.load("vae") is None
    assert bench.loader.started == list(range(29, 1, -1))


def test_a_failure_of_every_look_is_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def fail() -> None:
        looks.append(1)
        raise OSError("the disk fails")

    bench.start()
    monkeypatch.setattr(bench.manager._repository, "look", fail)
    eventually(lambda: len(looks) > 5)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert bench.serving() == {1}
