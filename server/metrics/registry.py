"""Prometheus metrics under the names of docs/metrics.md; the hot ones cost less than a microsecond a request."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from server.metrics.histogram import Family, Labels
from server.metrics.model_metrics import ModelMetrics
from server.metrics.run_statistics import RunStatistics

# The creation time of each series is of no use and doubles the page; the library has no setting per registry.
disable_created_metrics()
DURATIONS_SECONDS = (
    *(float(f"{mantissa}e{power}") for power in range(-4, 1) for mantissa in (1, 2.5, 5)),
    10.0,
)
BATCH_ROWS = tuple(float(2**power) for power in range(11))
ERRORS = tuple(float(f"{10 ** (step / 4 - 5):.3g}") for step in range(21))
DISTANCES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 20.0, 50.0)
_HELPERS = frozenset({"prior", "log_density"})
# Of maps of any scale: squared errors of pixels or features.
SCORES = tuple(float(f"{10 ** (step / 4 - 5):.3g}") for step in range(29))


class _Counts(NamedTuple):
    """Counts of one name by labels."""

    name: str
    text: str
    labels: Labels
    counts: Mapping[Labels, int]

    def copy(self) -> "_Counts":
        return self._replace(counts=dict(self.counts))


class RunSeries:
    """Metrics of the runs of one graph of one version."""

    def __init__(self, metrics: "Metrics", model: str, version: str, signature: str) -> None:
        self._metrics = metrics
        self._rows_key = (model, version, signature)
        self._key = (model, signature)
        # Of a new version, each begins a series, which must not happen while another thread copies them.
        with metrics.lock:
            self._queue = metrics.queue_seconds.series[self._key]
            self._run = metrics.run_seconds.series[self._key]
            self._batch = metrics.batch_rows.series[self._key]
            self._statistics = metrics.statistics[self._rows_key]

    def ran(self, rows: int, run_seconds: float, queue_seconds: Sequence[float]) -> None:
        """Count a graph run of `rows`, and the waits of the requests that began in it."""
        with self._metrics.lock:
            self._run.observe(run_seconds)
            self._batch.observe(rows)
            self._metrics.rows[self._rows_key] += rows
            self._statistics.ran(rows, run_seconds, queue_seconds)
            self._queue.observe_each(queue_seconds)

    def dropped(self, reason: str, rows: int) -> None:
        """Count rows that will never run."""
        with self._metrics.lock:
            self._metrics.dropped_rows[(*self._key, reason)] += rows
            self._statistics.dropped += 1

    def tiled(self, tiles: int) -> None:
        """Count rows that have run and were tiles."""
        with self._metrics.lock:
            self._metrics.tiles[self._rows_key] += tiles


class Metrics(Collector):
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.registry = CollectorRegistry()
        self.requests: defaultdict[Labels, int] = defaultdict(int)
        self.in_flight: defaultdict[str, int] = defaultdict(int)
        self.rows: defaultdict[Labels, int] = defaultdict(int)
        self.tiles: defaultdict[Labels, int] = defaultdict(int)
        self.dropped_rows: defaultdict[Labels, int] = defaultdict(int)
        self.statistics: defaultdict[Labels, RunStatistics] = defaultdict(RunStatistics)
        self.queues: dict[Labels, Callable[[], int]] = {}
        self.before_collect: list[Callable[[], None]] = []
        self.request_seconds = Family(
            "autoencoder_request_duration_seconds", "From arrival to answer.", ("method", "model"), DURATIONS_SECONDS
        )
        graph = ("model", "signature")
        self.queue_seconds = Family(
            "autoencoder_queue_duration_seconds", "Waiting for a batch.", graph, DURATIONS_SECONDS
        )
        self.run_seconds = Family("autoencoder_run_duration_seconds", "Graph runs.", graph, DURATIONS_SECONDS)
        self.batch_rows = Family("autoencoder_batch_size", "Rows of a graph run.", graph, BATCH_ROWS)
        version = ("model", "version")
        self.errors = Family(
            "autoencoder_reconstruction_error", "Squared error per pixel of Reconstruct.", version, ERRORS
        )
        self.distances = Family(
            "autoencoder_latent_distance", "Distance of Encode's latents to the training latents.", version, DISTANCES
        )
        self.outliers: defaultdict[Labels, int] = defaultdict(int)
        self.scores = Family("autoencoder_anomaly_score", "Score of the images sent to Detect.", version, SCORES)
        self.detections: defaultdict[Labels, int] = defaultdict(int)
        self.unpromised_alarms: defaultdict[Labels, int] = defaultdict(int)
        self.models = ModelMetrics(self.registry)

    def start(self) -> None:
        """Register this server's metrics and the client library's own about process and collector."""
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def finished(self, method: str, model: str, version: str, code: str, seconds: Sequence[float]) -> None:
        """Count requests that have ended together after `seconds` each, whatever their outcome."""
        with self.lock:
            self.in_flight[method] -= len(seconds)
            self.requests[method, model, version, code] += len(seconds)
            self.request_seconds.series[method, model].observe_each(seconds)

    def requests_in_flight(self) -> int:
        """Requests that have arrived and not ended."""
        with self.lock:
            return sum(self.in_flight.values())

    def watch(self, labels: Labels, waiting_rows: Callable[[], int]) -> None:
        """Report the queue and the rows of a graph, by model, version and signature, from now on.

        Of a graph that serves no method by itself only once it has run: an idle model must cost few series.
        """
        with self.lock:
            self.queues[labels] = waiting_rows
            if labels[2] not in _HELPERS:
                # A counter that begins at 1 has not increased.
                self.rows[labels] += 0

    def forget(self, model: str, version: str) -> None:
        """Drop the gauges of a version that is no longer loaded; its counters stay."""
        with self.lock:
            self.queues = {key: waiting for key, waiting in self.queues.items() if key[:2] != (model, version)}
        self.models.forget(model, version)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Every hot metric, for an exposition."""
        for prepare in self.before_collect:
            prepare()
        # Requests wait for the lock: it is held for copies alone.
        with self.lock:
            counters = [each.copy() for each in self._counters()]
            gauges = [each.copy() for each in self._gauges()]
            histograms = [family.copy() for family in self._histograms()]
        for kind, families in ((CounterMetricFamily, counters), (GaugeMetricFamily, gauges)):
            for name, text, labels, counts in families:
                family = kind(f"autoencoder_{name}", text, labels=labels)
                for values, count in sorted(counts.items()):
                    family.add_metric(values, count)
                yield family
        for histogram in histograms:
            yield histogram.collect()

    def _histograms(self) -> tuple[Family, ...]:
        graphs = (self.queue_seconds, self.run_seconds, self.batch_rows)
        return self.request_seconds, *graphs, self.errors, self.distances, self.scores

    def _counters(self) -> tuple[_Counts, ...]:
        graph = ("model", "version", "signature")
        return (
            _Counts("requests", "Finished requests.", ("method", "model", "version", "code"), self.requests),
            _Counts("rows", "Rows run.", graph, self.rows),
            _Counts("tiles", "Tiles of larger images run.", graph, self.tiles),
            _Counts("dropped_rows", "Rows never run.", ("model", "signature", "reason"), self.dropped_rows),
            _Counts(
                "out_of_distribution",
                "Rows beyond the 99.9 % quantile recorded at export.",
                ("model", "version", "signal"),
                self.outliers,
            ),
            _Counts(
                "detections",
                "Images sent to Detect, by what they are by the default threshold.",
                ("model", "version", "result"),
                self.detections,
            ),
            _Counts(
                "unpromised_alarms",
                "Anomalous images of another size than the calibrated one, for which no rate is promised.",
                ("model", "version"),
                self.unpromised_alarms,
            ),
        )

    def _gauges(self) -> tuple[_Counts, ...]:
        waiting: defaultdict[Labels, int] = defaultdict(int)
        for (model, version, signature), rows in self.queues.items():
            if (model, version, signature) in self.rows:
                waiting[model, signature] += rows()
        flight = {(method,): count for method, count in self.in_flight.items()}
        return (
            _Counts("requests_in_flight", "Requests not ended.", ("method",), flight),
            _Counts("queue_rows", "Rows waiting now.", ("model", "signature"), waiting),
        )
