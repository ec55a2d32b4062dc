"""What a snapshot says of records in each state; loads that begin before it is their turn."""

import shutil
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bundle.files import FileIdentity
from server.models import manager
from server.models.lifecycle import LOADING, Attempt, Fingerprint, Key, State
from server.models.records import LoadsAhead, Records
from tests.server.models.test_manager import eventually
from tests.server.models.test_manager_states import Bench
from tests.server.models.test_manager_states import bench as bench  # noqa: PLC0414 (a fixture)


def add(records: Records, name: str, version: int, *, ready: bool) -> Any:
    """A version that serves, or is being loaded."""
    record = records.find_or_add((name, version))
    record.start_load(Attempt(frozenset()), Future())
    if ready:
        record.become_ready(SimpleNamespace(busy=False))
    return record


def test_a_snapshot_shows_what_serves_and_why_the_rest_does_not() -> None:
    records = Records()
    new, old = add(records, "vae", 2, ready=True), add(records, "vae", 1, ready=True)
    old.retest()
    add(records, "vae", 3, ready=False)
    add(records, "gone", 1, ready=True).unload()
    broken = add(records, "broken", 1, ready=False)
    broken.fail("golden.npz is missing", 0.0, transient=False)
    labels = {"vae": {"stable": 1, "canary": 3}, "gone": {"stable": 1}}
    snapshot = records.snapshot(labels)
    assert snapshot.models == {"vae": {1: old.served, 2: new.served}}
    assert snapshot.labels == {"vae": {"stable": 1}}
    assert snapshot.unavailable == {
        ("vae", 3): (State.LOADING, LOADING),
        ("broken", 1): (State.REJECTED, "golden.npz is missing"),
    }
    assert snapshot.unloaded == {"gone"}


def test_queries() -> None:
    records = Records()
    assert records.seconds_to_next(0.0) is None
    vae, other = add(records, "vae", 1, ready=False), add(records, "other", 1, ready=False)
    assert records.find_or_add(("vae", 1)) is vae
    assert records.of("vae") == [vae]
    assert records.pending("vae") == [vae.outcome]
    vae.outcome.set_exception(MemoryError())
    # It is under way until its outcome is taken.
    assert records.pending("vae") == [vae.outcome]
    vae.fail("out of memory", 0.0, transient=True)
    assert records.pending("vae") == []
    other.unload()
    assert records.seconds_to_next(0.0) == 1.0
    assert [records.is_unloaded(name) for name in ("vae", "other", "none")] == [False, True, False]


@pytest.fixture
def three(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A manager of three models, of versions 1, 2 and 3, whose loads it waits for."""
    monkeypatch.setattr(manager, "_LOAD_PATIENCE_SECONDS", 60.0)
    for number, name in ((2, "wae"), (3, "xae")):
        shutil.copytree(bench.folder / "vae" / "1", bench.folder / name / str(number))
    bench.loader.gates = {number: threading.Event() for number in (1, 2, 3)}
    bench.loader.concurrent_loads = 2
    bench.manager.start()
    eventually(lambda: sorted(bench.loader.started) == [1, 2])
    return bench


def test_the_loads_of_a_start_run_together_and_count_in_order(three: Bench) -> None:
    three.loader.gates[2].set()
    assert not three.manager.wait_scanned(0.1)
    assert set(three.table.snapshot.models) == set()
    assert three.loader.started[2:] == []
    three.loader.gates[1].set()
    eventually(lambda: set(three.table.snapshot.models) == {"vae", "wae"})
    eventually(lambda: three.loader.started[2:] == [3])
    three.loader.gates[3].set()
    assert three.manager.wait_scanned(20)
    assert set(three.table.snapshot.models) == {"vae", "wae", "xae"}
    assert len(three.loader.started) == 3


class Disk:
    """Models of one version each, by their sizes in bytes, and the names that were looked at."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.looked_at: list[str] = []

    def first_candidate(self, name: str) -> Key:
        self.looked_at.append(name)
        return name, 1

    def fingerprint(self, key: Key) -> Fingerprint:
        return FileIdentity(1, self.sizes[key[0]], 0), None


@pytest.mark.parametrize(
    ("max_bytes", "begun"),
    [
        (100, ["abcd", "bcde", "cde", "de", "e"]),
        # As far as the next ones fit; what is due begins whatever its size.
        (9, ["ab", "b", "cd", "d", "e"]),
    ],
)
def test_loads_begin_ahead_while_their_files_are_few(max_bytes: int, begun: list[str]) -> None:
    disk, ends = Disk(a=4, b=5, c=5, d=4, e=20), {name: threading.Event() for name in "abcde"}
    ahead = LoadsAhead(Records(), cast("Any", disk), lambda key, _: cast("Any", ends[key[0]].wait(20)), max_bytes)
    seen: list[str] = []
    for name in ahead.walk("abcde", 4):
        seen.append("".join(name for name, _ in ahead._begun))
        _, outcome = ahead.take((name, 1), disk.fingerprint((name, 1)))
        ends[name].set()
        assert outcome.result(20)
    assert seen == begun
    # A load that has ended is not kept: it would keep a version's memory.
    eventually(lambda: not ahead._bytes_under_way)
    if max_bytes == 100:
        assert disk.looked_at == list("abcde")


def test_what_was_loaded_ahead_and_has_gone_or_changed_since_is_not_served(three: Bench) -> None:
    (three.folder / "wae" / "2" / "model.json").write_text("{ }")
    three.loader.gates[1].set()
    eventually(lambda: three.loader.cancelled == [2])
    eventually(lambda: sorted(three.loader.started) == [1, 2, 2, 3])
    shutil.rmtree(three.folder / "xae")
    three.loader.gates[2].set()
    assert three.manager.wait_scanned(20)
    eventually(lambda: three.loader.cancelled == [2, 3])
    assert set(three.table.snapshot.models) == {"vae", "wae"}


def test_a_server_that_serves_loads_one_model_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.loader.concurrent_loads = 2
    bench.start()
    monkeypatch.setattr(manager, "_LOAD_PATIENCE_SECONDS", 60.0)
    bench.loader.gates = {number: threading.Event() for number in (2, 3)}
    for number, name in ((2, "wae"), (3, "xae")):
        shutil.copytree(bench.folder / "vae" / "1", bench.folder / name / str(number))
    eventually(lambda: len(bench.loader.started) == 2)
    time.sleep(0.1)
    assert len(bench.loader.started) == 2
