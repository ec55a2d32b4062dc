"""Histograms that cost little to count in: of one name by labels, in the text of a Prometheus exposition."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily

Labels: TypeAlias = tuple[str, ...]


class Histogram:
    """Counts per bucket; not thread-safe."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_each(self, values: Sequence[float]) -> None:
        """Count a few values."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)

    def observe_all(self, values: NDArray[Any]) -> None:
        """Count (N,) values."""
        found = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.counts = [old + new for old, new in zip(self.counts, found.tolist(), strict=True)]
        self.total += float(values.sum())

    def copy(self) -> "Histogram":
        """What has been counted so far."""
        copied = Histogram(self.bounds)
        copied.counts, copied.total = self.counts.copy(), self.total
        return copied

    def cumulative(self) -> list[tuple[str, float]]:
        """Cumulative buckets, as Prometheus expects them."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Family:
    """Histograms of one name by labels; each is shown from its first value on, so that an idle model costs little."""

    def __init__(self, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.series: defaultdict[Labels, Histogram] = defaultdict(lambda: Histogram(bounds))
        self._name, self._text, self._labels, self._bounds = name, text, labels, bounds

    def copy(self) -> "Family":
        """What has been counted so far."""
        copied = Family(self._name, self._text, self._labels, self._bounds)
        copied.series.update((labels, each.copy()) for labels, each in self.series.items() if any(each.counts))
        return copied

    def collect(self) -> HistogramMetricFamily:
        """The family for an exposition."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, histogram in sorted(self.series.items()):
            family.add_metric(labels, histogram.cumulative(), histogram.total)
        return family
