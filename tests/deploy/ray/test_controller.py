"""The wait after replicas that fail before they are ready, and a file of endpoints that cannot be written."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.ray.controller import Controller, backoff_seconds, taken_up
from deploy.ray.endpoints import FILE
from deploy.ray.settings import ClusterSettings, RaySettings


def test_the_wait_doubles_up_to_its_limit_whatever_the_number_of_failures() -> None:
    assert [backoff_seconds(failures) for failures in (0, 1, 2, 5, 5_000)] == [1, 2, 4, 30, 30]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, {"current": {"new": {}}}),
        ({"birth": "a", "current": {"old": {}}, "down": True}, {"birth": "a", "current": {"old": {}}, "down": True}),
        ({"birth": "b", "current": {"old": {}}, "down": True}, {"current": {"new": {}}}),
        ({"current": {"old": {}}}, {"current": {"new": {}}}),
    ],
)
def test_a_controller_takes_up_what_it_has_stored_itself(
    stored: dict[str, Any] | None, expected: dict[str, Any]
) -> None:
    text = json.dumps(stored).encode() if stored else None
    assert taken_up(text, {"new": {}}, "a") == expected


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
