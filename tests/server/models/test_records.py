"""What a snapshot says of records in each state."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from server.models.lifecycle import LOADING, Attempt, State
from server.models.records import Records


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
