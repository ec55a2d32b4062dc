"""Prometheus metrics of loaded models: which versions serve, their loads and self-tests, and the alarms to expect."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from server.metrics.histogram import Histogram

LOAD_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class LoadTimes(Collector):
    """Load times by model: 15 of an idle model's 32 series, which are made when one changes and not at each scrape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(LOAD_SECONDS))
        self._family: HistogramMetricFamily | None = None

    def observe(self, model: str, seconds: float) -> None:
        """Count a load."""
        with self._lock:
            self._models[model].observe(seconds)
            self._family = None

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family for an exposition, which must not be changed."""
        with self._lock:
            if self._family is None:
                self._family = self._make()
            family = self._family
        yield family

    def _make(self) -> HistogramMetricFamily:
        name, text = "autoencoder_model_load_duration_seconds", "Time to load, check and warm up a version."
        family = HistogramMetricFamily(name, text, labels=["model"])
        bounds = [*map(str, LOAD_SECONDS), "+Inf"]
        for model, times in self._models.items():
            family.add_metric([model], list(zip(bounds, accumulate(times.counts), strict=True)), times.total)
        return family


class ModelMetrics:
    """Metrics that move when models are loaded and unloaded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        version = ("model", "version")
        self.info = Gauge(
            "autoencoder_model_info",
            "Loaded versions and their execution provider.",
            (*version, "family", "provider", "opset"),
            registry=registry,
        )
        self.ready = Gauge("autoencoder_model_ready", "1 after self-test and warm-up.", version, registry=registry)
        self.loads = Counter("autoencoder_model_loads", "Loads by result.", ("model", "result"), registry=registry)
        self.load_seconds = LoadTimes()
        registry.register(self.load_seconds)
        self.self_test = Gauge(
            "autoencoder_self_test_max_error",
            "Largest error of the golden vectors on this machine.",
            (*version, "signature"),
            registry=registry,
        )
        self._expect_inputs(registry)
        self.gpu_expected = Gauge(
            "autoencoder_gpu_expected", "1 if models should run on a GPU, whether they do or not.", registry=registry
        )
        self.queue_limit = Gauge(
            "autoencoder_queue_limit_rows", "Rows that may wait for each model.", registry=registry
        )
        self.build = Gauge(
            "autoencoder_build_info",
            "Versions of the parts.",
            ("version", "onnxruntime", "grpcio", "transport"),
            registry=registry,
        )

    def _expect_inputs(self, registry: CollectorRegistry) -> None:
        """Add what callers' images are compared with."""
        version = ("model", "version")
        self.error_quantile = Gauge(
            "autoencoder_reconstruction_error_quantile",
            "Quantiles of the reconstruction error recorded at export.",
            (*version, "level"),
            registry=registry,
        )
        self.alarm_share = Gauge(
            "autoencoder_out_of_distribution_alarm_ratio",
            "Out-of-distribution share above which the input distribution has shifted.",
            version,
            registry=registry,
        )
        self.false_alarms_expected = Gauge(
            "autoencoder_false_alarm_rate_expected",
            "Share of normal images that Detect calls anomalous by the default threshold, as calibrated.",
            version,
            registry=registry,
        )
        self.false_alarms_upper = Gauge(
            "autoencoder_false_alarm_rate_upper",
            "Upper end of the calibration's interval of that share.",
            version,
            registry=registry,
        )

    def forget(self, model: str, version: str) -> None:
        """Remove the gauges of a version."""
        labels = {"model": model, "version": version}
        for gauge in (
            self.info,
            self.ready,
            self.self_test,
            self.error_quantile,
            self.alarm_share,
            self.false_alarms_expected,
            self.false_alarms_upper,
        ):
            gauge.remove_by_labels(labels)
