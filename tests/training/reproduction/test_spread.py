import numpy as np
import pytest

from training.reproduction import spread
from training.reproduction.spread import LEVEL, Spread


def test_a_figure_is_told_with_its_scatter_and_count() -> None:
    assert Spread((101.0, 101.5, 100.5)).text() == "101.0 ± 0.5 (n = 3)"
    assert Spread((0.09081, 0.09083)).text() == "0.09082 ± 0.00001 (n = 2)"
    assert Spread((83.42,)).text() == "83.42 (n = 1)"


def test_two_runs_allow_no_interval() -> None:
    assert Spread((1.0,)).interval is None
    assert Spread((1.0, 2.0)).interval is None
    assert Spread((1.0, 2.0, 3.0)).interval is not None


@pytest.mark.parametrize("count", [3, 5])
def test_new_runs_lie_within_the_interval_as_often_as_it_says(count: int) -> None:
    drawn = np.random.default_rng(0).normal(80, 0.2, (1_000, count + 1))
    intervals = [Spread(tuple(map(float, row[:-1]))).interval for row in drawn]
    low, high = np.array(intervals).T
    inside = np.mean((low <= drawn[:, -1]) & (drawn[:, -1] <= high))
    # Four standard errors.
    assert inside == pytest.approx(LEVEL, abs=4 * (LEVEL * (1 - LEVEL) / 1_000) ** 0.5)


def test_a_departure_names_the_interval() -> None:
    known = spread.of([{"nll": 83.4, "mse": 1.0}, {"nll": 83.5}, {"nll": 83.6}])
    assert spread.departures(known, {"nll": 83.7, "mse": 5.0, "psnr": 1.0}) == []
    (told,) = spread.departures(known, {"nll": 85.0})
    assert told == "nll: expected 82.354 to 84.646 (99% of new runs, from 3 seeds), got 85"
