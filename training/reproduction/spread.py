"""Statistics over seeds: mean, standard deviation, and the prediction interval of one more run."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t

LEVEL = 0.99
"""Of all new runs of the same program, this share lies within the interval."""
_FEWEST = 3
"""Runs that an interval needs: of two it is 45 standard deviations wide on each side."""


@dataclass(frozen=True)
class Spread:
    """A figure of one recipe over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation (n - 1); 0 of one run, which has none."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float] | None:
        """In which one more run lies with probability `LEVEL`, if figures are normal; None of too few runs.

        Mean ± t s sqrt(1 + 1/n), with the quantile t of Student's distribution of n - 1 degrees of freedom.
        """
        count = len(self.values)
        if count < _FEWEST:
            return None
        quantile = float(t.ppf(0.5 + LEVEL / 2, count - 1))
        reach = quantile * self.deviation * math.sqrt(1 + 1 / count)
        return self.mean - reach, self.mean + reach

    def text(self, digits: int = 4) -> str:
        """Mean, standard deviation and number of runs."""
        shown = significant(self.mean, digits)
        if len(self.values) == 1:
            return f"{shown} (n = 1)"
        decimals = len(shown.partition(".")[2])
        return f"{shown} ± {self.deviation:.{max(decimals, 1)}f} (n = {len(self.values)})"


def significant(value: float, digits: int = 4) -> str:
    """A figure with so many significant digits, zeros at its end included."""
    return f"{value:#.{digits}g}".rstrip(".")


def departures(known: dict[str, Spread], found: dict[str, float]) -> list[str]:
    """A sentence for each figure of a new run that lies outside of the prediction interval of the known ones."""
    sentences: list[str] = []
    for name, value in found.items():
        interval = known[name].interval if name in known else None
        if interval and not interval[0] <= value <= interval[1]:
            low, high = interval
            sentences.append(
                f"{name}: expected {low:.5g} to {high:.5g} ({LEVEL:.0%} of new runs, from "
                f"{len(known[name].values)} seeds), got {value:.5g}"
            )
    return sentences


def of(figures: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """The spread of each figure over the runs that have it."""
    names = {name: None for each in figures for name in each}
    return {name: Spread(tuple(each[name] for each in figures if name in each)) for name in names}
