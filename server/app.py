"""Application: creates the parts of a server, starts and stops them in order (graceful shutdown)."""

import importlib.metadata
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb

from server.addresses import TrustedProxies, is_unix, join_host_port
from server.batching.executor import Executor
from server.calls.auth import TokenAuth
from server.calls.call import STOPPED
from server.calls.observer import CallObserver
from server.calls.tracing import open_tracer
from server.config import Config
from server.endpoint import Endpoint
from server.errors import UnavailableError
from server.metrics.gpu import watch_gpus
from server.metrics.registry import Metrics
from server.metrics_server import MetricsServer
from server.models.loader import Loader
from server.models.manager import ModelManager
from server.models.readiness import ReadinessCheck
from server.models.repository import Repository
from server.models.signing import SigningVerifier
from server.models.table import ModelTable
from server.models.watchdog import Watchdog
from server.runtime.providers import choose_provider, expects_gpu
from server.runtime.session import RUNTIME_VERSION
from server.services.autoencoder import service as autoencoder
from server.services.graph_calls import GraphCalls
from server.services.health import HealthService
from server.services.load_reports import LoadMeter, LoadReportService
from server.services.open_inference import service as open_inference
from server.transport.select import admin_transport, main_transport
from server.transport.tls import Certificates

if TYPE_CHECKING:
    from server.rest.server import RestServer

_LOGGER = logging.getLogger(__name__)
# Scripts that wait for the line of `App.start` should find the models loaded, if they load quickly.
_FIRST_SCAN_SECONDS = 5.0
_SCAN_POLL_SECONDS = 0.05
_DRAIN_POLL_SECONDS = 0.005
# Runs are interrupted at the end of the drain.
_LAST_RUN_SECONDS = 2.0


class RestError(Exception):
    """HTTP cannot be served."""


class App:
    """One server; several can live in one process.

    Raises:
        DeviceError: `--device cuda` without CUDA.
        TracingError: `--otlp-endpoint` without the packages for it.
        RestError: `--rest-port` without the packages for it.
    """

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics()
        self.table = ModelTable()
        self._config = config
        self._readiness = ReadinessCheck(self.table, strict=config.strict_readiness)
        watches = (config.max_health_watches, config.max_connection_health_watches)
        self._health = HealthService(*watches)
        # A separate service, because each belongs to the event loop of its transport.
        self._admin_health = HealthService(*watches)
        self._executor = Executor(config, fair=config.fair_queue)
        self._auth = TokenAuth(config.token_file)
        self._signing = SigningVerifier(config.require_signature)
        self._tracer = open_tracer(config.otlp_endpoint, config.trace_sample_ratio)
        self._observer = CallObserver(self.metrics, self._tracer)
        loader = Loader(config, choose_provider(config), self._signing, self._executor, self.metrics, self._tracer)
        self.manager = ModelManager(
            Repository(config.repository, config.versions),
            config.poll_seconds,
            loader,
            self.table,
            self.metrics,
            self._update_health,
        )
        self._watchdog = Watchdog(self.table, config.run_timeout_seconds, self.manager.on_hang)
        self._metrics_host = config.metrics_host or ("127.0.0.1" if is_unix(config.host) else config.host)
        self._metrics_server = MetricsServer(
            self._metrics_host, config.metrics_port, self.metrics.registry, self._readiness
        )
        self._certificates = _certificates(config)
        meter = LoadMeter(self.metrics, self.table)
        self._endpoint = self._make_endpoint(model_control=config.model_control)
        if config.load_reports == "calls":
            self._endpoint.load_report = meter.trailer
        reports = [] if config.load_reports == "off" else [LoadReportService(meter, *watches)]
        self._transport = main_transport(config, self._endpoint, [self._health, *reports], self._certificates)
        self._admin_endpoint = self._make_endpoint(model_control=True)
        self._admin = admin_transport(config, self._admin_endpoint, self._admin_health, self._certificates)
        self.rest_port: int | None = None
        self._rest = None if config.rest_port is None else self._make_rest()

    def start(self, ending: Callable[[], bool] = lambda: False) -> str:
        """Listen and load models, for some seconds unless `ending`, and return the line with the addresses.

        Raises:
            BindError: a port is in use.
            TokenFileError, TlsError, KeyFileError: a file cannot be used.
        """
        config = self._config
        self._auth.start()
        self._signing.start()
        self.metrics.before_collect.append(self._flush_drift)
        self.metrics.start()
        self.metrics.models.gpu_expected.set(expects_gpu(config, watch_gpus(self.metrics.registry)))
        self.metrics.models.queue_limit.set(config.max_queue_rows)
        versions = (importlib.metadata.version("hourglass"), RUNTIME_VERSION, grpc.__version__)
        self.metrics.models.build.labels(*versions, self._transport.name).set(1)
        metrics_port = self._metrics_server.start()
        try:
            port = self._transport.start()
            self._start_admin()
            self.rest_port = self._start_rest()
        except BaseException:
            self._metrics_server.close()
            raise
        self.manager.start()
        self._watchdog.start()
        until = time.monotonic() + _FIRST_SCAN_SECONDS
        while time.monotonic() < until and not ending() and not self.manager.wait_scanned(_SCAN_POLL_SECONDS):
            pass
        reason = self._readiness.check()
        if not reason.ready:
            _LOGGER.warning("not ready: %s", reason.reason)
        metrics = join_host_port(self._metrics_host, metrics_port)
        rest = "" if self.rest_port is None else f" rest={join_host_port(config.host, self.rest_port)}"
        return f"listening grpc={join_host_port(config.host, port)} metrics={metrics}{rest}"

    def reload(self) -> None:
        """Reload certificates and tokens, rescan the repository, and try rejected versions again."""
        self._auth.reload()
        if self._certificates is not None:
            self._certificates.reload()
        self.manager.rescan()

    def stop(self) -> bool:
        """Become unready, refuse new calls after the lame-duck time, answer accepted calls, then close.

        Returns whether all work has ended; a graph run that does not end is abandoned.
        """
        self._readiness.stop()
        self._update_health()
        time.sleep(self._config.lame_duck)
        self._endpoint.drain()
        self._admin_endpoint.drain()
        deadline = time.monotonic() + self._config.drain_seconds
        while (left := self.metrics.requests_in_flight()) and time.monotonic() < deadline:
            time.sleep(_DRAIN_POLL_SECONDS)
        if left:
            _LOGGER.warning("%d requests are still unanswered after %g s", left, self._config.drain_seconds)
            # The transport's thread may be in a run that does not end.
            self._watchdog.abandon_all(UnavailableError(STOPPED))
        self._transport.close()
        if self._admin is not None:
            self._admin.close()
        if self._rest is not None:
            self._rest.close()
        self.manager.close()
        self._watchdog.close()
        ended = self._executor.close(_LAST_RUN_SECONDS)
        if not ended:
            _LOGGER.error("a graph run did not finish and was abandoned")
        self._metrics_server.close()
        if self._tracer is not None:
            self._tracer.close()
        return ended

    def _make_endpoint(self, *, model_control: bool) -> Endpoint:
        config = self._config
        graphs = GraphCalls(self.table, self._executor, config)
        protocol = open_inference.Dependencies(
            graphs, self._readiness, self.manager, self._executor, self.metrics, config
        )
        methods = [*autoencoder.methods(graphs), *open_inference.methods(protocol)]
        declared = [*(f"/{autoencoder.SERVICE}/{name}" for name in _declared()), *open_inference.declared()]
        endpoint = Endpoint(
            methods,
            declared,
            self._executor,
            self._observer,
            self._auth,
            config.max_message_bytes,
            model_control=model_control,
        )
        if config.trusted_proxies:
            endpoint.proxies = TrustedProxies(config.trusted_proxies)
        return endpoint

    def _make_rest(self) -> "RestServer":
        try:
            from server.rest.server import RestServer  # noqa: PLC0415 (optional dependency)
            from server.rest.views import Views  # noqa: PLC0415 (as above)
        except ImportError as error:
            raise RestError(f"--rest-port needs an extra: pip install '.[rest]' in a checkout: {error}") from error
        views = Views(self.table, self._readiness, self.metrics.registry)
        return RestServer(self._config, self._endpoint, self._certificates, views)

    def _start_admin(self) -> None:
        if self._admin is None:
            return
        try:
            port = self._admin.start()
        except BaseException:
            self._transport.close()
            raise
        _LOGGER.info("admin port: listening on %s", join_host_port(self._config.admin_host, port))

    def _start_rest(self) -> int | None:
        if self._rest is None:
            return None
        config = self._config
        try:
            port = self._rest.start()
        except BaseException:
            self._transport.close()
            if self._admin is not None:
                self._admin.close()
            raise
        if config.explorer:
            scheme = "http" if config.tls_certificate is None else "https"
            _LOGGER.info("explorer: %s://%s/explorer/", scheme, join_host_port(config.host, port))
        return port

    def _update_health(self) -> None:
        serving = self._readiness.serving((autoencoder.SERVICE, open_inference.SERVICE))
        self._health.update(serving)
        self._admin_health.update(serving)

    def _flush_drift(self) -> None:
        for served in self.table.all():
            served.drift.flush()


def _declared() -> list[str]:
    return [method.name for method in pb.DESCRIPTOR.services_by_name["AutoencoderService"].methods]


def _certificates(config: Config) -> Certificates | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
