"""Channel settings: addresses, load balancing, TLS, bearer token."""

import json
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from types import NoneType
from typing import cast

import grpc

from hourglass_client.errors import invalid
from hourglass_client.proxies import proxy_advice

# All addresses of a name share the load.
_SHARE: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
# Several servers get calls by the rate that each can serve, as they report it (ORCA); all the same where they do not.
# One whose health service says NOT_SERVING gets none. A single server is called anyway: its own error says more than
# "unhealthy".
_BY_LOAD = {
    "enableOobLoadReport": True,
    "oobReportingPeriod": "5s",
    "blackoutPeriod": "5s",
    "weightExpirationPeriod": "30s",
}
_SHARE_AMONG_HEALTHY: dict[str, object] = {
    "loadBalancingConfig": [{"weighted_round_robin": _BY_LOAD}, {"round_robin": {}}],
    "healthCheckConfig": {"serviceName": ""},
}
_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The server's limit applies, not gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A dead peer is noticed within 40 s; servers tolerate a ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Reconnection: gRPC's own backoff grows to 120 s, and all clients of a process wait for it together. With these a
    # client is back within about a second of its server; a refused attempt costs the server's machine one packet.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # How long one attempt may take, by default 20 s: a machine that was off is asked again sooner.
    ("grpc.min_reconnect_backoff_ms", 10_000),
    # A host name may have another address after an outage; gRPC looks it up every 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
)
# What gRPC raises for a call on a channel that was closed here or by a fork: blocking, asyncio.
CLOSED_CHANNEL_ERRORS = (ValueError, grpc.aio.UsageError)
_DIRECT = ("grpc.enable_http_proxy", 0)
# Metadata of HTTP/2 carry visible ASCII, and tokens hold no spaces (RFC 6750, section 2.1).
_TOKEN = re.compile(r"[!-~]+")
_URL = re.compile(r"^(https?|grpcs?)://")
# Prefixes of gRPC's address syntax; the name server between the slashes of dns does not matter here.
_SCHEME = re.compile(r"^(dns:(//[^/]*/)?|ipv[46]:)")
_PORT = re.compile(r":\d+$")
# gRPC knows ports by name too, such as http.
_NAMED_PORT = re.compile(r":[^:\]]+$")
# Prefixes of addresses that have none, or find it out.
_WITHOUT_PORTS = ("unix:", "unix-abstract:", "vsock:", "xds:", "google-c2p:")
# That of the server, unless set otherwise.
_SERVER_PORT = 8001
_TLS_PORT = 443
# A larger one loses its upper bits.
_LARGEST_PORT = 65_535
_PEM = b"CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS certificates: which to trust, and the caller's own. Contents of PEM files, not their paths."""

    root_certificates: bytes | None = None
    """Certificates to trust; the system's own when None."""
    private_key: bytes | None = None
    """Key of the caller, for servers that ask for one."""
    certificate_chain: bytes | None = None
    """Certificate of the caller, with `private_key`."""
    server_name: str | None = None
    """Name in the server's certificate, if it is not the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """The form that gRPC takes."""
        return grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)

    def options(self) -> tuple[tuple[str, str], ...]:
        """Channel options."""
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Everything needed to open a channel."""

    target: str
    authority: str | None
    """HTTP/2's :authority, if not the target: gRPC would send a whole list of addresses, which is not valid there."""
    service_config: str
    tls: Tls | None
    metadata: tuple[tuple[str, str], ...]
    direct: bool
    """Whether no HTTP proxy of the environment is used."""
    proxy_advice: str
    """What to add to the error of a connection that fails; empty without a proxy."""

    @property
    def options(self) -> list[tuple[str, int | str]]:
        """Channel options."""
        named = () if self.authority is None else (("grpc.default_authority", self.authority),)
        return [
            ("grpc.service_config", self.service_config),
            *_OPTIONS,
            *([_DIRECT] if self.direct else []),
            *named,
            *(self.tls.options() if self.tls else ()),
        ]


def channel_settings(address: str | Sequence[str], tls: Tls | None, token: str | None) -> ChannelSettings:
    """Check addresses and credentials, and combine them."""
    addresses = _split(address) if isinstance(address, str) else _listed(address)
    if not isinstance(token, (str, NoneType)):  # pyright: ignore[reportUnnecessaryIsInstance] (from outside)
        raise invalid("token", f"expected a string, got {type(token).__name__}")
    for each in addresses:
        _check_address(each)
        if tls is None:
            _check_port(each)
    if tls is not None and tls.root_certificates is not None and _PEM not in tls.root_certificates:
        raise invalid("tls", "expected certificates in PEM form, -----BEGIN CERTIFICATE-----, got something else")
    local = all(_is_local(each) for each in addresses)
    metadata = () if token is None else (("authorization", f"Bearer {_checked(token, tls, local=local)}"),)
    target = _target(addresses)
    # A proxy knows this machine's addresses as its own, and takes one address, not a list.
    direct = local or len(addresses) > 1
    advice = "" if direct else proxy_advice(_bare(target))
    if len(addresses) == 1:
        # Whoever writes the scheme asks for all addresses of the name.
        share = _SHARE_AMONG_HEALTHY if target.startswith("dns:") else _SHARE
        return ChannelSettings(target, None, json.dumps(share), tls, metadata, direct, advice)
    authority = (tls.server_name if tls else None) or _with_port(addresses[0])
    return ChannelSettings(target, authority, json.dumps(_SHARE_AMONG_HEALTHY), tls, metadata, direct, advice)


def _checked(token: str, tls: Tls | None, *, local: bool) -> str:
    """The token, if it can be sent and nobody else can read it; an error does not quote it."""
    if tls is None and not local:
        raise invalid("token", "a token is sent to another machine only over TLS; pass tls=Tls(…) too")
    if not token:
        raise invalid("token", "expected a token, got an empty string; pass None to send no token")
    if not _TOKEN.fullmatch(token):
        where = "at an end: strip it" if _TOKEN.fullmatch(token.strip("\ufeff").strip()) else "inside"
        raise invalid(
            "token", f"expected visible ASCII characters alone, got a space, a line end or another character {where}"
        )
    return token


def _check_address(address: str) -> None:
    """Refuse what gRPC would take for another address, or name only in its log."""
    if not address.strip():
        raise invalid("address", "expected HOST:PORT, got an empty string")
    if _URL.match(address):
        raise invalid("address", f"expected HOST:PORT, got the URL {address}")
    port = _PORT.search(address)
    if port and not address.startswith("unix") and not _is_ip(address) and int(port[0][1:]) > _LARGEST_PORT:
        raise invalid("address", f"expected a port up to {_LARGEST_PORT}, got {address}")


def _check_port(address: str) -> None:
    """Refuse a host alone, for which gRPC would take 443: the port of TLS."""
    rest = _SCHEME.sub("", address)
    if rest.startswith(_WITHOUT_PORTS):
        return
    for each in rest.split(","):
        if _is_ip(each) or not _NAMED_PORT.search(each):
            host = f"[{each}]" if _is_ip(each) and ":" in each else each.rstrip(":")
            raise invalid("address", f"expected HOST:PORT, got {address} without a port: try {host}:{_SERVER_PORT}")


def _is_ip(address: str) -> bool:
    """Whether it is an IP address without a port, such as ::1234567."""
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _split(address: str) -> list[str]:
    """Addresses by commas; gRPC's own lists, ipv4:HOST:PORT,HOST:PORT, stay whole."""
    if _SCHEME.match(address) or address.startswith(_WITHOUT_PORTS):
        return [address]
    return [each.strip() for each in address.split(",")]


def _listed(address: object) -> list[str]:
    each = list(cast("Iterable[object]", address)) if isinstance(address, Iterable) else [address]
    if not all(isinstance(one, str) for one in each):
        raise invalid("address", f"expected HOST:PORT or a list of them, got {address!r}")
    return cast("list[str]", each)


def _target(addresses: list[str]) -> str:
    """One target: gRPC resolves one name to all its addresses, again and again, or takes a list of IP addresses."""
    if not addresses:
        raise invalid("address", "expected HOST:PORT or a list of them, got an empty list")
    if len(addresses) == 1:
        return addresses[0]
    found = [_resolved(each) for each in addresses]
    for version in (4, 6):
        if all(version in each for each in found):
            return f"ipv{version}:{','.join(one for each in found for one in each[version])}"
    raise invalid("address", f"several addresses must all be IPv4 or all IPv6, got {', '.join(addresses)}")


def _resolved(address: str) -> dict[int, list[str]]:
    """IP:PORT of one of several addresses, by IP version; a name is looked up here, once.

    Raises:
        InvalidArgumentError: its name has no address, or it is one of a kind that gRPC takes alone.
    """
    if _SCHEME.match(address) or address.startswith(_WITHOUT_PORTS):
        raise invalid("address", f"expected HOST:PORT in a list of addresses, got {address}: give it alone")
    address = _with_port(address)
    version = _ip_version(address)
    if version is not None:
        return {version: [address]}
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise invalid("address", f"cannot look up {host}, of {address}: {error}") from error
    ips: dict[int, list[str]] = {}
    for family, _, _, _, (ip, number, *_) in found:
        if family == socket.AF_INET:
            ips.setdefault(4, []).append(f"{ip}:{number}")
        else:
            ips.setdefault(6, []).append(f"[{ip}]:{number}")
    return ips


def _with_port(address: str) -> str:
    """HOST:PORT; without a port, which is checked to be so with TLS alone, its port, as gRPC has it for one address."""
    if _NAMED_PORT.search(address) and not _is_ip(address):
        return address
    host = address.strip("[]")
    return f"[{host}]:{_TLS_PORT}" if ":" in host else f"{host}:{_TLS_PORT}"


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
        # An IPv6 address without brackets contains colons itself.
        return str(ip_address(rest))
    except ValueError:
        return _PORT.sub("", rest).strip("[]")


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
