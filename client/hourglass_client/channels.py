"""How to reach a server: addresses, TLS, token."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import grpc

from hourglass_client.errors import invalid

# All addresses of a name share the load.
_SHARE: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
# Of several servers, one that says that it is not serving gets none. A lone server is asked all the same: its own
# sentence says more than "unhealthy".
_SHARE_AMONG_HEALTHY = _SHARE | {"healthCheckConfig": {"serviceName": ""}}
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The server's limit holds, not gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A dead peer is noticed within 40 s; servers tolerate a ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
# gRPC's ways to write an address; of dns, the name server between the slashes does not matter here.
_SCHEME = re.compile(r"^(dns:(//[^/]*/)?|ipv[46]:)")
_PORT = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class Tls:
    """What the connection trusts, and who it is. Contents of PEM files, not their paths."""

    root_certificates: bytes | None = None
    """Certificates to trust; the system's own when None."""
    private_key: bytes | None = None
    """Key of the caller, for servers that ask for one."""
    certificate_chain: bytes | None = None
    """Certificate of the caller, with `private_key`."""
    server_name: str | None = None
    """Name in the server's certificate, where it is not the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """The form that gRPC takes."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)

    def options(self) -> tuple[tuple[str, str], ...]:
        """Channel options."""
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)


@dataclass(frozen=True, slots=True)
class Route:
    """Everything needed to open a channel."""

    target: str
    authority: str | None
    """What servers are called by where that is not the target: gRPC would send a list that is none to HTTP/2."""
    service_config: str
    tls: Tls | None
    metadata: tuple[tuple[str, str], ...]

    @property
    def options(self) -> list[tuple[str, int | str]]:
        """Channel options."""
        named = () if self.authority is None else (("grpc.default_authority", self.authority),)
        return [
            ("grpc.service_config", self.service_config),
            *_OPTIONS,
            *named,
            *(self.tls.options() if self.tls else ()),
        ]


def route(address: str | Sequence[str], tls: Tls | None, token: str | None) -> Route:
    """Checks and joins where to connect and with what."""
    addresses = [address] if isinstance(address, str) else list(address)
    if token is not None and tls is None and not all(_is_local(each) for each in addresses):
        raise invalid("token", "a token travels beyond this machine only under TLS; give tls=Tls(…) too")
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    target = _target(addresses)
    if len(addresses) == 1:
        return Route(target, None, json.dumps(_SHARE), tls, metadata)
    authority = (tls.server_name if tls else None) or addresses[0]
    return Route(target, authority, json.dumps(_SHARE_AMONG_HEALTHY), tls, metadata)


def _target(addresses: list[str]) -> str:
    """One target: gRPC resolves one name to all its addresses, or takes a list of IP addresses."""
    if not addresses:
        raise invalid("address", "expected HOST:PORT or a list of IP:PORT, got an empty list")
    if len(addresses) == 1:
        return addresses[0]
    versions = {_ip_version(each) for each in addresses}
    if len(versions) != 1 or None in versions:
        raise invalid(
            "address",
            f"several addresses must be IPv4 or IPv6 ones with ports, got {', '.join(addresses)}; "
            "a host name goes alone, all addresses that it resolves to are used",
        )
    return f"ipv{versions.pop()}:{','.join(addresses)}"


def _ip_version(address: str) -> int | None:
    try:
        return ip_address(_host(address)).version
    except ValueError:
        return None


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = _bare(address)
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bare(address: str) -> str:
    """The host of an address with or without scheme and port: dns:///localhost:80, ipv6:[::1]:80, ::1."""
    rest = _SCHEME.sub("", address)
    try:
        # An IPv6 address without brackets has colons of its own.
        return str(ip_address(rest))
    except ValueError:
        return _PORT.sub("", rest).strip("[]")


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
