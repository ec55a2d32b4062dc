"""What a page shows of a server beside its calls, as JSON: reference points of a model, and metrics of the moment."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from bundle.density.latent_arrays import MAX_COMPONENTS
from bundle.latents import LatentStatistics
from server.model_version import ModelVersion
from server.models.readiness import ReadinessCheck
from server.models.table import ModelTable

# Enough sliders, and for wide latents no more numbers than a picture has.
_MAX_AXES = 16
_MAX_AXIS_NUMBERS = 2**18
FAMILIES = (
    "autoencoder_requests",
    "autoencoder_requests_in_flight",
    "autoencoder_request_duration_seconds",
    "autoencoder_queue_rows",
    "autoencoder_queue_limit_rows",
    "autoencoder_rows",
    "autoencoder_dropped_rows",
    "autoencoder_out_of_distribution",
    "autoencoder_out_of_distribution_alarm_ratio",
    "autoencoder_reconstruction_error",
    "autoencoder_latent_distance",
    "autoencoder_detections",
    "autoencoder_unpromised_alarms",
    "autoencoder_false_alarm_rate_expected",
    "autoencoder_false_alarm_rate_upper",
    "autoencoder_model_ready",
)
"""Metrics that the document shows, under their names on the metrics page."""
# Of these the histograms' buckets are left out: only counts and sums are of use here.
_WITHOUT_BUCKETS = ("autoencoder_reconstruction_error", "autoencoder_latent_distance")


class Views:
    """Documents about the state of one server."""

    def __init__(self, table: ModelTable, readiness: ReadinessCheck, registry: CollectorRegistry) -> None:
        self._table = table
        self._readiness = readiness
        self._registry = registry

    def reference(self, name: str, version: str) -> dict[str, object]:
        """Where a model's latents lie.

        Raises:
            ServingError: as `ModelTable.get`.
        """
        return reference_document(self._table.get(name, version))

    def metrics(self) -> dict[str, object]:
        """Readiness, and the samples of some metrics."""
        readiness = self._readiness.check()
        samples = [
            {"name": sample.name, "labels": dict(sample.labels), "value": sample.value}
            for family in self._registry.collect()
            if family.name in FAMILIES
            for sample in family.samples
            if not (sample.name.endswith("_bucket") and family.name in _WITHOUT_BUCKETS)
        ]
        return {"ready": readiness.ready, "reason": readiness.reason, "samples": samples}


def reference_document(served: ModelVersion) -> dict[str, object]:
    """Where a model's latents lie: mean, leading axes and, if the bundle has them, points of held-out images.

    Axes and points are absent where there is no single latent vector to speak of: without a code, without statistics,
    and with free sizes, where statistics are of channels.
    """
    found: dict[str, object] = {"model_name": served.name, "model_version": served.version}
    statistics = served.statistics
    if statistics is None or not served.model.height or statistics.latent_size == 0:
        return found
    size = statistics.latent_size
    count = max(2, min(_MAX_AXES, _MAX_AXIS_NUMBERS // size))
    axes = statistics.components[:count]
    found["axes"] = {
        "mean": _tensor(statistics.mean, np.float32),
        "components": _tensor(axes, np.float32),
        "deviations": np.sqrt(np.maximum(statistics.variances[: len(axes)], 0)).tolist(),
        "explained": (statistics.variances[: len(axes)] / max(float(statistics.total_variance), 1e-300)).tolist(),
    }
    if statistics.reference_points is not None:
        found["points"] = _points(statistics, statistics.reference_points)
    return found


def _points(statistics: LatentStatistics, points: NDArray[np.float16]) -> Mapping[str, object]:
    labels, names = statistics.reference_labels, statistics.reference_label_names
    return {
        "coordinates": "latents" if statistics.latent_size <= MAX_COMPONENTS else "components",
        "values": _tensor(points, np.float16),
        "labels": [] if labels is None else labels.tolist(),
        "label_names": [] if names is None else names.tolist(),
    }


def _tensor(array: NDArray[Any], kind: type[np.generic]) -> dict[str, str | Sequence[int]]:
    """A tensor as protobuf JSON writes it."""
    content = np.ascontiguousarray(array, kind)
    return {
        "data_type": f"DATA_TYPE_{np.dtype(kind).name.upper()}",
        "shape": list(content.shape),
        "data": base64.b64encode(content.astype(content.dtype.newbyteorder("<")).tobytes()).decode(),
    }
