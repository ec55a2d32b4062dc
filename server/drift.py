"""How far what callers send lies from what the model was trained on, counted a block of rows at a time."""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.latents import LatentStatistics
from server.metrics import Metrics

# Large enough that a row costs next to nothing, small enough that nobody notices a block.
_BLOCK_ROWS = 128
_LEVEL = 0.999


class Drift:
    """Reconstruction errors and latent distances of one version."""

    def __init__(self, metrics: Metrics, model: str, version: str, statistics: LatentStatistics | None) -> None:
        self._metrics = metrics
        self._labels = (model, version)
        self._statistics = statistics
        self._errors: list[NDArray[Any]] = []
        self._latents: list[NDArray[Any]] = []
        self._rows = 0
        self._lock = Lock()

    def add_errors(self, errors: NDArray[np.float32]) -> None:
        """(N,) squared errors per pixel that Reconstruct has answered with."""
        self._add(self._errors, errors)

    def add_latents(self, latents: NDArray[np.float32]) -> None:
        """(N, D) latents that Encode has answered with."""
        if self._statistics is not None:
            self._add(self._latents, latents)

    def flush(self) -> None:
        """Count what has come in since the last time."""
        with self._lock:
            errors, latents = self._errors, self._latents
            self._errors, self._latents, self._rows = [], [], 0
        statistics = self._statistics
        if errors:
            limit = None if statistics is None else statistics.reconstruction_error_quantile(_LEVEL)
            self._count("reconstruction", np.concatenate(errors).astype(np.float64), limit)
        if latents and statistics is not None:
            distances = statistics.distance(np.concatenate(latents))
            self._count("latent", distances, statistics.latent_distance_quantile(_LEVEL))

    def _add(self, rows: list[NDArray[Any]], array: NDArray[Any]) -> None:
        with self._lock:
            rows.append(array)
            self._rows += len(array)
            full = self._rows >= _BLOCK_ROWS
        if full:
            self.flush()

    def _count(self, signal: str, values: NDArray[np.float64], limit: float | None) -> None:
        family = self._metrics.errors if signal == "reconstruction" else self._metrics.distances
        outside = 0 if limit is None else int(np.count_nonzero(values > limit))
        with self._metrics.lock:
            family.series[self._labels].observe_all(values)
            if limit is not None:
                self._metrics.outliers[(*self._labels, signal)] += outside
