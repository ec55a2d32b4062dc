"""Counts what Detect finds (alarm rate), by a version's default threshold, whatever threshold a request chose."""

from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import Model
from numpy.typing import NDArray

from bundle.detection import index_of
from server.metrics.registry import Metrics
from server.types import Array


class Detections:
    """Scores and detections of one version."""

    def __init__(self, metrics: Metrics, model: Model) -> None:
        detection = model.detection
        self._metrics = metrics
        self._labels = (model.name, model.version)
        self._default = index_of(detection, detection.default_rate)
        self._calibration = detection
        self._size = (detection.calibrated_height, detection.calibrated_width)
        self._free = model.height == 0
        self._threshold = np.float32(np.inf if self._default is None else detection.thresholds[self._default])

    def announce(self) -> None:
        """Show the counters at 0, because one that begins at 1 has not increased, and the alarms to expect."""
        metrics, index = self._metrics, self._default
        if index is None:
            return
        with metrics.lock:
            for result in ("normal", "anomalous"):
                metrics.detections[(*self._labels, result)] += 0
            if self._free:
                metrics.unpromised_alarms[self._labels] += 0
        if self._calibration.calibrated_on:
            metrics.models.false_alarms_expected.labels(*self._labels).set(self._calibration.rates[index])
            metrics.models.false_alarms_upper.labels(*self._labels).set(self._calibration.rate_upper[index])

    def observe_outputs(self, outputs: Sequence[Array]) -> None:
        """Count (rows,) scores, the first of the graph's outputs with fixed sizes."""
        self._count(outputs[0], 0)

    def observe(self, scores: NDArray[np.float32], sizes: Sequence[tuple[int, ...]]) -> None:
        """Count (N,) scores of images of these heights and widths, with free sizes."""
        other = np.array([size != self._size for size in sizes])
        self._count(scores, int(np.count_nonzero(other & (scores > self._threshold))))

    def _count(self, scores: NDArray[np.float32], unpromised: int) -> None:
        anomalous = int(np.count_nonzero(scores > self._threshold))
        metrics = self._metrics
        with metrics.lock:
            metrics.scores.series[self._labels].observe_all(scores.astype(np.float64))
            metrics.detections[(*self._labels, "anomalous")] += anomalous
            metrics.detections[(*self._labels, "normal")] += len(scores) - anomalous
            if unpromised:
                metrics.unpromised_alarms[self._labels] += unpromised
