"""What a controller takes over; replicas that fail before they are ready; endpoints that cannot be written."""

import inspect
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.ray import fleet
from deploy.ray.controller import Controller, backoff_seconds, taken_up
from deploy.ray.decision import Phase
from deploy.ray.endpoints import FILE
from deploy.ray.fleet import _TAKEN_OVER, Fleet, _Held
from deploy.ray.process import Probe
from deploy.ray.scaling import Autoscaler
from deploy.ray.settings import ClusterSettings, RaySettings


def test_the_wait_doubles_up_to_its_limit_whatever_the_number_of_failures() -> None:
    assert [backoff_seconds(failures) for failures in (0, 1, 2, 5, 5_000)] == [1, 2, 4, 30, 30]


@pytest.mark.parametrize(
    ("stored", "incarnation", "expected"),
    [
        (None, "a", {"current": {"new": {}}}),
        (
            {"birth": "a", "current": {"old": {}}, "down": True},
            "a",
            {"birth": "a", "current": {"old": {}}, "down": True},
        ),
        ({"birth": "b", "current": {"old": {}}, "down": True}, "a", {"current": {"new": {}}}),
        ({"current": {"old": {}}}, "a", {"current": {"new": {}}}),
        # Of an earlier release.
        ({"current": {"old": {}}}, "", {"current": {"old": {}}}),
        (None, "", {"current": {"new": {}}}),
    ],
)
def test_a_controller_takes_up_what_it_has_stored_itself(
    stored: dict[str, Any] | None, incarnation: str, expected: dict[str, Any]
) -> None:
    text = json.dumps(stored).encode() if stored else None
    assert taken_up(text, {"new": {}}, incarnation) == expected


def test_a_controller_can_be_restarted_with_the_arguments_of_an_earlier_release() -> None:
    assert inspect.signature(Controller).bind("{}")


class Answers:
    """Replicas that were taken over and answer when the test says so, without Ray."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.probes: dict[str, Probe] = {}
        self.fleet = Fleet()
        monkeypatch.setattr(fleet.ray, "wait", lambda *_, **__: None)
        monkeypatch.setattr(fleet.ray, "get", self._get)
        monkeypatch.setattr(fleet.ray, "nodes", list)

    def take_over(self, name: str, on_stop: Callable[[], None]) -> None:
        actor = SimpleNamespace(
            probe=SimpleNamespace(remote=lambda: name),
            stop=SimpleNamespace(remote=on_stop),
        )
        self.fleet._held[name] = _Held(name, actor, 0.0, _TAKEN_OVER)

    def _get(self, name: str, timeout: float) -> Probe:
        if name not in self.probes:
            raise TimeoutError(timeout)
        return self.probes[name]


def test_what_was_taken_over_is_left_alone_until_all_have_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(ClusterSettings(), ray=RaySettings(endpoints=str(tmp_path)))
    answers, published_at_stop = Answers(monkeypatch), list[str]()
    old, new = "replica-old-1", f"replica-{settings.revision}-1"
    answers.take_over(old, lambda: published_at_stop.append((tmp_path / FILE).read_text()))
    answers.take_over(new, lambda: None)
    answers.fleet._clock = lambda: 1.0
    controller: Any = Controller.__new__(Controller)
    controller._current, controller._next, controller._count, controller._down = settings, None, 1, False
    controller._fleet, controller._scaler = answers.fleet, Autoscaler(settings.scaling)
    controller._lock, controller._not_before, controller._failures = threading.Lock(), 0.0, 0
    controller._unpublished, controller._publishers = {}, {}
    answers.probes[new] = Probe(Phase.READY, "", "10.0.0.1:8001")
    controller._reconcile()
    assert not answers.fleet._held[old].stopping
    assert not (tmp_path / FILE).exists()
    answers.probes[old] = Probe(Phase.READY, "", "10.0.0.2:8001")
    controller._reconcile()
    assert len(published_at_stop) == 1
    assert "10.0.0.1" in published_at_stop[0]
    assert "10.0.0.2" not in published_at_stop[0]


def test_endpoints_that_cannot_be_written_are_a_sentence_until_they_can(tmp_path: Path) -> None:
    # Without its store, which is Ray's.
    controller: Any = Controller.__new__(Controller)
    taken = tmp_path / "taken"
    taken.write_text("no folder")
    controller._current = replace(ClusterSettings(), ray=RaySettings(endpoints=str(taken)))
    controller._fleet = SimpleNamespace(addresses=lambda: ["10.0.0.1:8001"])
    controller._down, controller._unpublished, controller._publishers = False, {}, {}
    controller._publish()
    assert str(taken) in controller._unpublished[""]
    taken.unlink()
    controller._publish()
    assert not controller._unpublished
    assert "10.0.0.1" in (taken / FILE).read_text()


def test_a_place_that_is_no_target_any_more_is_no_complaint(tmp_path: Path) -> None:
    controller: Any = Controller.__new__(Controller)
    controller._fleet, controller._down = SimpleNamespace(addresses=list[str]), False
    controller._unpublished = {"10.0.0.8": "10.0.0.8: the disk is full", "": "the disk is full"}
    controller._current = replace(ClusterSettings(), ray=RaySettings(endpoints=str(tmp_path), envoys=["10.0.0.8"]))
    controller._publish()
    assert controller._unpublished == {"10.0.0.8": "10.0.0.8: the disk is full"}
    controller._current = replace(ClusterSettings(), ray=RaySettings(endpoints=str(tmp_path)))
    controller._publish()
    assert not controller._unpublished
