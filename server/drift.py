"""How far what callers send lies from what the model was trained on, counted a block of rows at a time."""

from collections import deque
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from bundle.latents import LatentStatistics
from server.metrics import Metrics

# Answers, or rows of one, that are counted together: a row costs next to nothing, and nobody notices a block.
_BLOCK = 128
_LEVEL = 0.999


class Drift:
    """Reconstruction errors and latent distances of one version."""

    def __init__(self, metrics: Metrics, model: str, version: str, statistics: LatentStatistics | None) -> None:
        self._metrics = metrics
        self._labels = (model, version)
        self._statistics = statistics
        self._errors: deque[bytes] = deque()
        self._latents: deque[bytes] = deque()
        self._lock = Lock()

    def add_errors(self, errors: bytes, rows: int) -> None:
        """(rows,) float32 squared errors per pixel that Reconstruct has answered with."""
        self._add(self._errors, errors, rows)

    def add_latents(self, latents: bytes, rows: int) -> None:
        """(rows, D) float32 latents that Encode has answered with."""
        if self._statistics is not None:
            self._add(self._latents, latents, rows)

    def flush(self) -> None:
        """Count what has come in since the last time."""
        # One at a time, so that who asks for the metrics finds everything counted.
        with self._lock:
            errors = np.frombuffer(_drain(self._errors), np.float32)
            latents = np.frombuffer(_drain(self._latents), np.float32)
            statistics = self._statistics
            if len(errors):
                limit = None if statistics is None else statistics.reconstruction_error_quantile(_LEVEL)
                self._count("reconstruction", errors.astype(np.float64), limit)
            if len(latents) and statistics is not None:
                distances = statistics.distance(latents.reshape(-1, statistics.latent_size))
                self._count("latent", distances, statistics.latent_distance_quantile(_LEVEL))

    def _add(self, waiting: deque[bytes], data: bytes, rows: int) -> None:
        waiting.append(data)
        if len(waiting) >= _BLOCK or rows >= _BLOCK:
            self.flush()

    def _count(self, signal: str, values: NDArray[np.float64], limit: float | None) -> None:
        family = self._metrics.errors if signal == "reconstruction" else self._metrics.distances
        outside = 0 if limit is None else int(np.count_nonzero(values > limit))
        with self._metrics.lock:
            family.series[self._labels].observe_all(values)
            if limit is not None:
                self._metrics.outliers[(*self._labels, signal)] += outside


def _drain(waiting: deque[bytes]) -> bytes:
    """Everything that has come in; what comes in meanwhile is left for the next time or taken too."""
    return b"".join([waiting.popleft() for _ in range(len(waiting))])
