"""The parts of a server, and the order in which they start and stop."""

import importlib.metadata
import importlib.util
import ipaddress
import logging
import threading
import time

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb

from server.config import Config
from server.dispatcher import Dispatcher
from server.endpoint import Endpoint
from server.loading import Loader
from server.metrics import Metrics
from server.models import ModelTable
from server.monitor import Monitor
from server.readiness import ReadinessCheck
from server.repository import ModelRepository
from server.services import autoencoder
from server.services.graph_calls import GraphCalls
from server.services.health import HealthService
from server.session import RUNTIME_VERSION, choose_provider
from server.transport import Transport
from server.transport.grpcio import GrpcioTransport

_LOGGER = logging.getLogger(__name__)
# Scripts that wait for the line of `App.start` should find the models there, if they can be loaded at once.
_FIRST_SCAN_SECONDS = 5.0
_DRAIN_POLL_SECONDS = 0.005
# Answers handed to the native transport leave it a moment later.
_FLUSH_SECONDS = 0.1


class App:
    """One server; several can live in one process.

    Raises:
        DeviceError: `--device cuda` without CUDA.
    """

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics()
        self.table = ModelTable()
        self._config = config
        self._readiness = ReadinessCheck(self.table, strict=config.strict_readiness)
        self._health = HealthService()
        self._dispatcher = Dispatcher(config.heavy_threads, config.worker_niceness)
        loader = Loader(config, choose_provider(config), self._dispatcher, self.metrics)
        self.repository = ModelRepository(
            config.repository,
            config.versions,
            config.poll_seconds,
            loader,
            self.table,
            self.metrics,
            self._tell_health,
        )
        graphs = GraphCalls(self.table, self._dispatcher, config)
        declared = [f"/{autoencoder.SERVICE}/{name}" for name in _declared()]
        methods = autoencoder.methods(graphs)
        self._endpoint = Endpoint(methods, declared, self._dispatcher, self.metrics, config.max_message_bytes)
        self._monitor = Monitor(config.host, config.metrics_port, self.metrics.registry, self._readiness)
        self._transport = self._make_transport()
        self._stopped = threading.Event()

    def start(self) -> str:
        """Listen and load; the line that says where.

        Raises:
            BindError: a port is taken.
        """
        config = self._config
        self.metrics.before_collect.append(self._flush_drift)
        self.metrics.start()
        versions = (importlib.metadata.version("hourglass"), RUNTIME_VERSION, grpc.__version__)
        self.metrics.models.build.labels(*versions, self._transport.name).set(1)
        metrics_port = self._monitor.start()
        try:
            port = self._transport.start()
        except BaseException:
            self._monitor.close()
            raise
        self.repository.start()
        self.repository.wait_scanned(_FIRST_SCAN_SECONDS)
        reason = self._readiness.check()
        if not reason.ready:
            _LOGGER.warning("not ready: %s", reason.reason)
        return f"listening grpc={_join(config.host, port)} metrics={_join(config.host, metrics_port)}"

    def stop(self) -> None:
        """Become unready, refuse new calls after the lame-duck time, answer those accepted, then close."""
        self._readiness.stop()
        self._tell_health()
        time.sleep(self._config.lame_duck_seconds)
        self._endpoint.drain()
        deadline = time.monotonic() + self._config.drain_seconds
        while (left := self.metrics.requests_in_flight()) and time.monotonic() < deadline:
            time.sleep(_DRAIN_POLL_SECONDS)
        if left:
            _LOGGER.warning("%d requests are not answered after %g s", left, self._config.drain_seconds)
        time.sleep(_FLUSH_SECONDS)
        self._transport.close()
        self.repository.close()
        self._dispatcher.close()
        self._monitor.close()

    def _make_transport(self) -> Transport:
        config = self._config
        address = _join(config.host, config.port)
        if _wants_native(config):
            from server.transport.native import NativeTransport  # noqa: PLC0415 (may not be installed)

            if not _is_loopback(config.host):
                _LOGGER.warning(
                    "the native transport has no TLS, no limits on connection age and client pings: "
                    "beyond loopback put a proxy before it, or use --transport grpcio"
                )
            behind = GrpcioTransport(self._endpoint, self._health, None, reflection=config.reflection)
            return NativeTransport(self._endpoint, behind, address, config.io_threads)
        return GrpcioTransport(self._endpoint, self._health, address, reflection=config.reflection)

    def _tell_health(self) -> None:
        self._health.update(self._readiness.serving((autoencoder.SERVICE,)))

    def _flush_drift(self) -> None:
        for served in self.table.all():
            served.drift.flush()


def _declared() -> list[str]:
    return [method.name for method in pb.DESCRIPTOR.services_by_name["AutoencoderService"].methods]


def _wants_native(config: Config) -> bool:
    if config.transport == "auto":
        return importlib.util.find_spec("pygrpc_native") is not None
    return config.transport == "native"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
