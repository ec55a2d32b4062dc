"""Rows waiting to replicas, with windows against flapping."""

from deploy.ray.scaling import Autoscaler
from deploy.ray.settings import ScalingSettings


class Times:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counts(rows: list[float], settings: ScalingSettings, current: int = 1) -> list[int]:
    """The number of replicas after each second, while so many rows wait."""
    times = Times()
    scaler = Autoscaler(settings, times)
    result: list[int] = []
    for waiting in rows:
        times.now += 1
        current = scaler.count(current, waiting)
        result.append(current)
    return result


SETTINGS = ScalingSettings(least=1, most=4, rows=10, up_seconds=3, down_seconds=5)


def test_more_when_rows_have_waited_for_a_while_and_fewer_when_they_have_not_for_longer() -> None:
    assert counts([25] * 4 + [0] * 7, SETTINGS) == [1, 1, 3, 3, 3, 3, 3, 3, 3, 1, 1]


def test_a_short_peak_changes_nothing() -> None:
    assert set(counts([0, 0, 0, 0, 25, 0, 0, 0], SETTINGS)) == {1}


def test_queues_that_are_empty_now_and_then_count_on_average() -> None:
    assert counts([0, 60, 0, 60, 0, 60], SETTINGS)[-1] == 3


def test_rows_that_come_and_go_do_not_make_replicas_come_and_go() -> None:
    assert counts([30, 0] * 10, SETTINGS, current=3)[6:] == [3] * 14


def test_never_beyond_the_limits() -> None:
    assert counts([1e6] * 5, SETTINGS)[-1] == 4
    assert counts([0] * 9, ScalingSettings(least=2, most=4, down_seconds=0), current=4)[-1] == 2
    assert counts([0], SETTINGS, current=9) == [4]
