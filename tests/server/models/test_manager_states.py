"""What the manager makes of loads that hang, fail or are superseded, with a loader that obeys the test."""

import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bundle.errors import BundleError
from server.batching.run import OnRunFailed
from server.metrics.registry import Metrics
from server.models import manager
from server.models.lifecycle import State
from server.models.manager import ModelManager
from server.models.repository import Repository
from server.models.table import ModelTable
from server.models.watchdog import CancelledError
from tests.server.models.test_manager import eventually


class Version:
    """Stands in for a served model."""

    def __init__(self, name: str, version: int, self_test: Callable[[], None]) -> None:
        self.name, self.version = name, str(version)
        self.model = SimpleNamespace(family="vae")
        self.provider, self.opset, self.statistics = "CPUExecutionProvider", 20, None
        self.batchers: dict[str, Any] = {}
        self.drift = SimpleNamespace(flush=lambda: None, detections=SimpleNamespace(announce=lambda: None))
        self.self_test_errors: dict[str, float] = {}
        self.self_test = self_test
        self.busy = self.abandoned = False


class Loader:
    """Loads that wait for a gate, fail, or give a stand-in."""

    def __init__(self) -> None:
        self.concurrent_loads, self.max_bytes = 1, 2**31
        self.started: list[int] = []
        self.cancelled: list[int] = []
        self.gates: dict[int, threading.Event] = {}
        self.failures: dict[int, Exception] = {}
        self.on_run_failed: list[OnRunFailed] = []
        self.self_test: Callable[[], None] = lambda: None

    def load(
        self, folder: Path, name: str, version: int, failed: OnRunFailed, cancelled: Callable[[], bool]
    ) -> Version:
        assert folder.name == str(version)
        self.started.append(version)
        self.on_run_failed.append(failed)
        gate = self.gates.get(version)
        while gate is not None and not gate.wait(0.01):
            if cancelled():
                self.cancelled.append(version)
                raise CancelledError
        if version in self.failures:
            raise self.failures[version]
        return Version(name, version, self.self_test)


class Bench:
    """A manager of one model, with the snapshots that it has published."""

    def __init__(self, folder: Path, policy: str) -> None:
        self.folder = folder
        self.loader = Loader()
        self.table = ModelTable()
        self.served: list[set[int]] = []
        self.manager = ModelManager(
            Repository(folder, policy), 0.02, cast("Any", self.loader), self.table, Metrics(), self._note
        )

    def publish(self, version: int) -> None:
        folder = self.folder / "vae" / str(version)
        folder.mkdir(parents=True)
        (folder / "model.json").write_text("{}")

    def start(self) -> None:
        self.manager.start()
        assert self.manager.wait_scanned(20)

    def serving(self) -> set[int]:
        return set(self.table.snapshot.models.get("vae", {}))

    def wait(self, *versions: int) -> None:
        eventually(lambda: self.serving() == set(versions))

    def states(self) -> dict[int, State]:
        return {version: each.state for (_, version), each in self.table.snapshot.unavailable.items()}

    def reason(self, version: int) -> str:
        return self.table.snapshot.unavailable["vae", version].reason

    def _note(self) -> None:
        self.served.append(self.serving())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(manager, "_LOAD_PATIENCE_SECONDS", 0.05)
    bench = Bench(tmp_path / "models", "latest")
    bench.publish(1)
    yield bench
    for gate in bench.loader.gates.values():
        gate.set()
    bench.manager.close()


def test_a_version_that_was_superseded_while_it_loaded_is_forgotten(bench: Bench) -> None:
    bench.start()
    bench.loader.gates[2] = threading.Event()
    bench.publish(2)
    eventually(lambda: bench.states() == {2: State.LOADING})
    assert bench.serving() == {1}
    bench.publish(3)
    bench.wait(3)
    eventually(lambda: bench.loader.cancelled == [2])
    assert bench.states() == {}


def test_the_older_version_is_loaded_before_a_deleted_one_goes(bench: Bench) -> None:
    bench.publish(2)
    bench.start()
    bench.served.clear()
    shutil.rmtree(bench.folder / "vae" / "2")
    bench.wait(1)
    assert {frozenset(seen) for seen in bench.served} <= {frozenset({1}), frozenset({2})}
    assert bench.loader.started == [2, 1]


def test_an_older_version_serves_while_a_run_of_the_newest_hangs(bench: Bench) -> None:
    bench.publish(2)
    bench.start()
    hung = bench.table.snapshot.models["vae"][2]
    hung.busy = hung.abandoned = True
    bench.manager.on_hang(hung, "a run has taken longer than 3 s")
    bench.wait(1)
    assert bench.states() == {2: State.HUNG}
    assert bench.reason(2) == "a run has taken longer than 3 s"
    # Neither a retry nor unloading and loading makes another session while that run is under way.
    bench.manager.rescan()
    assert bench.manager.load("vae") is None
    bench.manager.unload("vae")
    assert bench.table.snapshot.unloaded == {"vae"}
    assert bench.states() == {}
    assert bench.manager.load("vae") is None
    assert bench.states() == {2: State.HUNG}
    assert bench.loader.started == [2, 1, 1]
    hung.busy = False
    bench.wait(2)
    assert bench.states() == {}


def test_a_failing_request_is_retested_once(bench: Bench) -> None:
    entered, gate = threading.Event(), threading.Event()
    tests: list[int] = []

    def self_test() -> None:
        tests.append(1)
        entered.set()
        assert gate.wait(20)

    bench.loader.self_test = self_test
    bench.start()
    served = bench.table.snapshot.models["vae"][1]
    report = bench.loader.on_run_failed[0]
    for _ in range(5):
        report(ValueError("bad pixel"), certain=False)
    assert entered.wait(20)
    # It serves meanwhile.
    assert bench.serving() == {1}
    gate.set()
    eventually(lambda: all(thread.name != "retest" for thread in threading.enumerate()))
    assert bench.manager.load("vae") is None
    report(ValueError("bad pixel"), certain=False)
    assert bench.manager.load("vae") is None
    assert (len(tests), bench.loader.started) == (1, [1])
    assert bench.table.snapshot.models["vae"][1] is served


@pytest.mark.parametrize("certain", [False, True])
def test_a_session_that_has_failed_is_replaced_once(bench: Bench, *, certain: bool) -> None:
    def self_test() -> None:
        raise BundleError("golden case 0 differs")

    bench.loader.self_test = self_test
    bench.start()
    bench.loader.gates[1] = threading.Event()
    for _ in range(3):
        bench.loader.on_run_failed[0](RuntimeError("the device is gone"), certain=certain)
    eventually(lambda: bench.states() == {1: State.LOADING})
    assert bench.reason(1) == "its session has failed and is being replaced"
    bench.loader.gates[1].set()
    bench.wait(1)
    # Late reports name the session that is gone.
    for late in (False, True):
        bench.loader.on_run_failed[0](RuntimeError("the device is gone"), certain=late)
    assert bench.manager.load("vae") is None
    assert bench.loader.started == [1, 1]


def test_an_unloaded_model_stays_so_whatever_comes_to_its_folder(bench: Bench) -> None:
    bench.start()
    bench.manager.unload("vae")
    shutil.rmtree(bench.folder / "vae")
    bench.publish(1)
    bench.publish(2)
    bench.manager.rescan()
    time.sleep(0.2)
    assert (bench.serving(), bench.states(), bench.loader.started) == (set(), {}, [1])
    assert bench.table.snapshot.unloaded == {"vae"}
    assert bench.manager.load("vae") is None
    assert bench.serving() == {2}
    assert bench.table.snapshot.unloaded == frozenset()


def test_a_failure_keeps_its_reason_and_is_retried_when_it_matters(bench: Bench) -> None:
    bench.loader.failures = {1: BundleError(f"{bench.folder}/vae/1/golden.npz is missing")}
    bench.start()
    assert bench.states() == {1: State.REJECTED}
    assert bench.reason(1) == "vae/1/golden.npz is missing"
    bench.loader.failures[2] = MemoryError("no memory left")
    bench.publish(2)
    eventually(lambda: bench.states() == {1: State.REJECTED, 2: State.BACKING_OFF})
    assert "MemoryError" in bench.reason(2)
    del bench.loader.failures[2]
    bench.manager.rescan()
    bench.wait(2)
    # The policy does not want it now: its reason stays, and it is tried again when version 2 is gone.
    eventually(lambda: bench.states() == {1: State.PENDING})
    assert bench.reason(1) == "vae/1/golden.npz is missing"
    tried = len(bench.loader.started)
    time.sleep(0.1)
    assert len(bench.loader.started) == tried
    bench.loader.failures.clear()
    shutil.rmtree(bench.folder / "vae" / "2")
    bench.wait(1)
    assert bench.states() == {}


def test_a_load_that_ends_while_another_is_awaited_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "_LOAD_PATIENCE_SECONDS", 0.3)
    bench = Bench(tmp_path / "models", "all")
    bench.loader.failures = {1: BundleError("wrong"), 2: BundleError("wrong")}
    bench.publish(1)
    bench.publish(2)
    bench.start()
    # Version 2 is put aside after a while, and ends while the manager waits for version 1.
    bench.loader.gates = {1: threading.Event(), 2: threading.Event()}
    del bench.loader.failures[2]
    opened = threading.Timer(0.45, bench.loader.gates[2].set), threading.Timer(0.55, bench.loader.gates[1].set)
    for timer in opened:
        timer.start()
    assert bench.manager.load("vae") is None
    assert bench.serving() == {2}
    bench.manager.close()


def test_the_reason_of_a_hang_outlives_another_snapshot(bench: Bench) -> None:
    bench.start()
    hung = bench.table.snapshot.models["vae"][1]
    hung.busy = hung.abandoned = True
    stale = bench.table.snapshot
    bench.table.withdraw(hung, "a run has taken longer than 3 s")
    # Other work of the manager publishes before it hears of the hang.
    bench.table.replace(stale)
    assert bench.serving() == set()
    assert bench.states() == {1: State.HUNG}
    assert bench.reason(1) == "a run has taken longer than 3 s"


def test_a_model_without_versions_can_be_unloaded_before_any_arrives(bench: Bench) -> None:
    (bench.folder / "new").mkdir()
    bench.start()
    bench.manager.unload("new")
    shutil.copytree(bench.folder / "vae" / "1", bench.folder / "new" / "1")
    bench.manager.rescan()
    time.sleep(0.2)
    assert bench.table.snapshot.unloaded == {"new"}
    assert set(bench.table.snapshot.models) == {"vae"}
    assert bench.manager.load("new") is None
    assert set(bench.table.snapshot.models) == {"vae", "new"}


def test_a_model_is_unloaded_although_its_folder_cannot_be_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Repository, name: str, serving: Collection[int]) -> list[int]:
        raise PermissionError(f"{self}: {name} {serving}")

    bench.start()
    with monkeypatch.context() as patch:
        patch.setattr(Repository, "versions", fail)
        bench.manager.unload("vae")
        assert (bench.serving(), bench.table.snapshot.unloaded) == (set(), {"vae"})
    assert bench.manager.load("vae") is None
