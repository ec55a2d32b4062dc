"""What a replica that was ready may miss before it is lost: a moment of load must not end it."""

from deploy.ray.decision import Phase
from deploy.ray.fleet import _TAKEN_OVER, Fleet, _Held
from deploy.ray.process import Probe
from deploy.ray.settings import ReplicaSettings

LIMITS = ReplicaSettings(interval_seconds=0.5, lost_seconds=1.5)
READY = Probe(Phase.READY, "", "10.0.0.1:8001")
SLOW = Probe(Phase.STARTING, "no answer: timed out", "10.0.0.1:8001")


def ready() -> _Held:
    held = _Held("replica-one-1", None, 0.0)
    held.answered(READY, LIMITS)
    return held


def test_one_slow_answer_changes_nothing() -> None:
    held = ready()
    for _ in range(3):
        held.answered(SLOW, LIMITS)
        held.missed(LIMITS, "no answer")
        assert held.probe == READY
        held.answered(READY, LIMITS)


def test_one_that_is_not_ready_for_long_is_lost_and_keeps_its_address() -> None:
    held = ready()
    for _ in range(3):
        held.answered(SLOW, LIMITS)
    assert held.probe.phase is Phase.LOST
    assert held.probe.reason == "ready no more: no answer: timed out"
    assert held.probe.address == READY.address
    held.answered(READY, LIMITS)
    assert held.probe == READY


def test_one_that_was_never_ready_goes_on_starting() -> None:
    held = _Held("replica-one-1", None, 0.0)
    for _ in range(9):
        held.answered(SLOW, LIMITS)
        held.missed(LIMITS, "no answer")
    assert held.probe == SLOW


def test_one_that_ended_has_failed_at_once() -> None:
    held = ready()
    held.answered(Probe(Phase.FAILED, "the server exited with code 1"), LIMITS)
    assert held.probe.phase is Phase.FAILED
    assert held.was_ready


def taken_over(name: str) -> _Held:
    return _Held(name, None, 0.0, _TAKEN_OVER)


def test_one_that_was_taken_over_and_never_answers_is_lost() -> None:
    held = taken_over("replica-one-1")
    for _ in range(2):
        held.missed(LIMITS, "no answer")
        assert held.probe.phase is Phase.STARTING
    held.missed(LIMITS, "no answer")
    assert held.probe.phase is Phase.LOST


def test_one_that_was_taken_over_and_starts_has_time() -> None:
    held = taken_over("replica-one-1")
    for _ in range(9):
        held.answered(SLOW, LIMITS)
        held.missed(LIMITS, "no answer")
    assert held.probe == SLOW


def test_a_fleet_is_known_once_all_that_were_taken_over_have_answered_or_are_lost() -> None:
    fleet = Fleet()
    one, two, lost = (taken_over(f"replica-one-{number}") for number in range(3))
    fleet._held = {each.name: each for each in (one, two, lost)}
    one.answered(READY, LIMITS)
    two.answered(READY, LIMITS)
    assert not fleet.is_known()
    for _ in range(3):
        lost.missed(LIMITS, "no answer")
    assert fleet.is_known()
    assert fleet.addresses() == [READY.address, READY.address]
