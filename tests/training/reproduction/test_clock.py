from dataclasses import replace
from pathlib import Path

import pytest

from training.reproduction import clock
from training.reproduction.clock import Lap, Race

LAP = Lap(90.0, 61.3, 118.0, 8, 89.4, 89.6, "python -m training vae-flow", "2026-11-28", "2 x CPU", "abc")
# A small one on digits.
RACE = Race("vae", (400.0, 10.0), ("run.epochs=2", "run.batch_size=256"))


def test_goals_that_are_passed_get_a_lap_and_others_none(capsys: pytest.CaptureFixture[str]) -> None:
    (lap,) = clock.run(RACE, RACE.goals, "", 1)
    assert (lap.goal, lap.epochs) == (400.0, 1)
    assert lap.seconds > 0
    assert 60 < lap.held_out < 400
    assert lap.cpu_seconds > 0
    assert lap.run == (
        "python -m training vae --data digits --set run.epochs=2 --set run.batch_size=256 --set device.threads=1"
    )
    assert "epoch 2/2: " in capsys.readouterr().out


def test_a_lap_replaces_that_of_the_same_goal(tmp_path: Path) -> None:
    clock.keep([LAP, replace(LAP, goal=86.76)], tmp_path / "clock.json")
    clock.keep([replace(LAP, seconds=50.0)], tmp_path / "clock.json")
    assert [(each.goal, each.seconds) for each in clock.read(tmp_path / "clock.json")] == [(90.0, 50.0), (86.76, 61.3)]


def test_the_page_says_what_was_passed_missed_and_not_yet_run() -> None:
    page = clock.page([LAP, replace(LAP, goal=86.76, test=86.9)])
    assert "| 90 | 61.3 | 118.0 | 8 | 89.40 | 89.60 | `python -m training vae-flow` | 2026-11-28 |" in page
    assert "| 86.90 (missed) |" in page
    assert "| 105.59 | not yet run |" in page


def test_every_race_is_a_valid_configuration() -> None:
    for race in clock.RACES:
        assert race.config("mnist", 2).data.kind == "mnist"


def test_the_committed_page_is_that_of_the_committed_laps() -> None:
    assert clock.PAGE.read_text(encoding="utf-8") == clock.page(clock.read(clock.KEPT))
