"""Transport selection: native or grpcio, for the gRPC port and the admin port."""

import importlib.util
import logging
from collections.abc import Sequence

from server.addresses import is_loopback, join_host_port
from server.config import Config
from server.endpoint import Endpoint
from server.services.health import HealthService
from server.transport import AttachedService, Transport
from server.transport.grpcio import GrpcioTransport
from server.transport.tls import Certificates

_LOGGER = logging.getLogger(__name__)


def main_transport(
    config: Config,
    endpoint: Endpoint,
    attached: Sequence[AttachedService],
    certificates: Certificates | None,
) -> Transport:
    """The transport of the gRPC port, with services of its own."""
    address = join_host_port(config.host, config.port)
    if not _wants_native(config, certificates):
        return GrpcioTransport(endpoint, attached, address, config, certificates, reflection=config.reflection)
    from server.transport.native import NativeTransport  # noqa: PLC0415 (optional dependency)

    if not is_loopback(config.host):
        _LOGGER.warning(
            "the native transport has no TLS, limits neither connections, their age, client pings nor unread answers, "
            "and decompresses a message before checking its size, so that a small one can fill the memory: beyond "
            "loopback it needs a proxy that refuses compressed messages and limits connections; or use --transport "
            "grpcio"
        )
    behind = GrpcioTransport(endpoint, attached, None, config, None, reflection=config.reflection)
    return NativeTransport(endpoint, behind, address, config)


def admin_transport(
    config: Config, endpoint: Endpoint, health: HealthService, certificates: Certificates | None
) -> GrpcioTransport | None:
    """The transport of the admin port; None unless `--admin-port` is set."""
    if config.admin_port is None:
        return None
    address = join_host_port(config.admin_host, config.admin_port)
    return GrpcioTransport(endpoint, [health], address, config, certificates, reflection=config.reflection)


def _wants_native(config: Config, certificates: Certificates | None) -> bool:
    if config.transport == "auto":
        # Beyond this machine a compressed message of 1 MiB would fill 2 GiB before its token is checked.
        safe = certificates is None and is_loopback(config.host)
        return safe and importlib.util.find_spec("pygrpc_native") is not None
    return config.transport == "native"
