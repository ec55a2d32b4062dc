"""Drift (out-of-distribution) detection: compares callers' data with the training data, a block of rows at a time.

What Detect finds is counted beside it, in `detections.py`.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import exp, lgamma, log, log1p
from threading import Lock

import numpy as np
from autoencoder.v1.model_pb2 import Model
from numpy.typing import NDArray

from bundle.latents import LatentStatistics
from server.metrics.detections import Detections
from server.metrics.registry import Metrics
from server.types import Array

_LOGGER = logging.getLogger(__name__)
# Rows counted together: adding one is nearly free, a block takes too little time to notice or for numpy to thread.
_BLOCK = 256
# A density takes a third of the time of encoding: of full blocks, every fourth row is enough to tell shares by.
_THINNED = 4
# Nats of what is infinitely far: a sum of distances must stay finite.
_FARTHEST = 1e12
_LEVEL = 0.999
# Alarm when the share of outliers exceeds this, ten times the normal share …
_ALARM_SHARE = 0.01
# … or the share that in-distribution data exceeds with this probability, if that is larger.
_FALSE_ALARMS = 0.001
# With this many held-out rows the quantile is exact enough for the first rule alone.
_MANY_ROWS = 10_000


class Drift:
    """Reconstruction errors and latent distances of one version."""

    def __init__(
        self,
        metrics: Metrics,
        model: Model,
        statistics: LatentStatistics | None,
        density: Callable[[Array], Sequence[Array]] | None = None,
    ) -> None:
        """Compare with statistics; `density` gives [log p(z)] (N,) of latents (N, D), where the prior is learned."""
        self.detections = Detections(metrics, model)
        self._metrics = metrics
        self._labels = (model.name, model.version)
        self._statistics = statistics
        self._error_limit = None if statistics is None else statistics.reconstruction_error_quantile(_LEVEL)
        known = statistics is not None and statistics.negative_log_density_quantiles is not None and density is not None
        self._density = density if known else None
        self._distance_limit = None if statistics is None else _distance_limit(statistics, by_density=known)
        self._errors: deque[bytes] = deque()
        self._latents: deque[bytes] = deque()
        self._waiting_rows = 0
        """Approximate, as several threads add to it: no row is lost, but a block may be larger."""
        self._lock = Lock()

    def observer(self, signature: str) -> Callable[[Sequence[Array]], None] | None:
        """Return what takes the (rows, …) outputs of a graph that are answered with; None if drift ignores them."""
        observers = {
            "encode": self._observe_latents,
            "reconstruct": self._observe_errors,
            "detect": self.detections.observe_outputs,
        }
        return observers.get(signature)

    def _observe_errors(self, outputs: Sequence[Array]) -> None:
        """(rows, …) images and (rows,) float32 squared errors per pixel of Reconstruct."""
        self._add(self._errors, outputs[1])

    def _observe_latents(self, outputs: Sequence[Array]) -> None:
        """(rows, D) float32 latents of Encode."""
        if self._statistics is not None:
            self._add(self._latents, outputs[0])

    def observe_errors(self, errors: NDArray[np.float32]) -> None:
        """(rows,) squared errors per pixel of Reconstruct with free sizes."""
        self._add(self._errors, errors)

    def observe_codes(self, codes: NDArray[np.float32]) -> None:
        """(rows, h, w, c) latents of Encode with free sizes."""
        if self._statistics is not None:
            distances = self._statistics.distance(codes)
            with self._lock:
                self._count("latent", distances, self._distance_limit)

    def flush(self) -> None:
        """Count the rows added since the last flush."""
        # One thread at a time, so that an exposition of the metrics includes every row.
        with self._lock:
            self._waiting_rows = 0
            if self._errors:
                errors = np.frombuffer(_drain(self._errors), np.float32)
                self._count("reconstruction", errors.astype(np.float64), self._error_limit)
            if self._latents and self._statistics is not None:
                rows = np.frombuffer(_drain(self._latents), np.float32).reshape(-1, self._statistics.latent_size)
                if self._density is not None and len(rows) >= _BLOCK:
                    rows = rows[::_THINNED]
                for first in range(0, len(rows), _BLOCK):
                    self._count_latents(self._statistics, rows[first : first + _BLOCK])

    def _count_latents(self, statistics: LatentStatistics, rows: NDArray[np.float32]) -> None:
        if self._density is None:
            self._count("latent", statistics.distance(rows), self._distance_limit)
            return
        try:
            densities = self._density(np.ascontiguousarray(rows))[0].astype(np.float64)
        except Exception:
            # The answers that the rows come from are good.
            _LOGGER.exception("the density of latents cannot be computed: they are not counted for drift")
            return
        known = np.nan_to_num(densities, nan=-_FARTHEST, neginf=-_FARTHEST, posinf=_FARTHEST)
        self._count("latent", statistics.density_distance(-known), self._distance_limit)

    def _add(self, waiting: deque[bytes], values: Array) -> None:
        waiting.append(values.tobytes())
        self._waiting_rows += len(values)
        if self._waiting_rows >= _BLOCK:
            self.flush()

    def _count(self, signal: str, values: NDArray[np.float64], limit: float | None) -> None:
        family = self._metrics.errors if signal == "reconstruction" else self._metrics.distances
        outside = 0 if limit is None else int(np.count_nonzero(values > limit))
        # Both begin here, so that the share of outliers is right from the first scrape on.
        with self._metrics.lock:
            family.series[self._labels].observe_all(values)
            if limit is not None:
                self._metrics.outliers[(*self._labels, signal)] += outside


def _distance_limit(statistics: LatentStatistics, *, by_density: bool) -> float:
    return (statistics.density_distance_quantile if by_density else statistics.latent_distance_quantile)(_LEVEL)


def _drain(waiting: deque[bytes]) -> bytes:
    """Remove and join everything added; what is added meanwhile may be included."""
    return b"".join([waiting.popleft() for _ in range(len(waiting))])


def alarm_share(statistics: LatentStatistics | None) -> float:
    """Share of rows beyond the 99.9 % quantile above which the input distribution has shifted.

    A quantile of a few hundred images is nearly their maximum, and a larger share of similar images may exceed it.
    """
    if statistics is None or statistics.held_out_rows is None or not 1 <= statistics.held_out_rows < _MANY_ROWS:
        return _ALARM_SHARE
    rows = int(statistics.held_out_rows)
    above = rows - int(_LEVEL * (rows - 1))
    low, high = _ALARM_SHARE, 1.0
    if _fewer(above, rows, low) <= _FALSE_ALARMS:
        return low
    while high - low > 1e-6:  # noqa: PLR2004 (finer than any use of it)
        middle = (low + high) / 2
        low, high = (middle, high) if _fewer(above, rows, middle) > _FALSE_ALARMS else (low, middle)
    return high


def _fewer(count: int, rows: int, share: float) -> float:
    """Probability that fewer than `count` of `rows` lie beyond a limit, each with probability `share`."""
    return sum(
        exp(lgamma(rows + 1) - lgamma(k + 1) - lgamma(rows - k + 1) + k * log(share) + (rows - k) * log1p(-share))
        for k in range(count)
    )
