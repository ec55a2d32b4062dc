"""Addresses: to listen on (IP addresses, host names, Unix sockets), and of callers behind proxies (x-forwarded-for)."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_FORWARDED = "x-forwarded-for"
# A customer of a provider has an IPv6 network of this size, and may change addresses in it at will.
_NETWORK_BITS = 64
# What comes before an IPv4 address in an IPv6 one, ::ffff:10.0.0.1.
_MAPPED_BITS = 96


def is_unix(host: str) -> bool:
    """Whether a host is a Unix socket, unix:/path."""
    return host.startswith("unix:")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or is_unix(host)


def join_host_port(host: str, port: int) -> str:
    """HOST:PORT, as URLs write it; a Unix socket has no port."""
    if is_unix(host):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """A host as the socket library takes it: an IPv6 address without brackets, unix:/path without slashes before it."""
    if is_unix(host):
        return "unix:" + host.removeprefix("unix:").removeprefix("//")
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


class TrustedProxies:
    """Finds the caller behind proxies whose word is taken: `unix` for Unix sockets, addresses and networks."""

    def __init__(self, listed: str) -> None:
        """Take proxies by commas.

        Raises:
            ValueError: one is neither an address nor a network nor `unix`.
        """
        names = [name.strip() for name in listed.split(",") if name.strip()]
        self._unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]
        # Proxies are few, and each sends many calls.
        self._trusts = lru_cache(maxsize=1024)(self._is_trusted)

    def peer(self, peer: str, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Scheme:host:port of the caller, port 0 if a trusted `peer` names it; otherwise `peer` itself.

        The last entry counts: the proxy has written it, what comes before it may be the caller's own.
        """
        if not self._trusts(peer.rpartition(":")[0]):
            return peer
        values = [value for key, value in metadata if key == _FORWARDED and isinstance(value, str)]
        named = values[-1].rpartition(",")[2].strip() if values else ""
        return _peer(named) or peer

    def _is_trusted(self, host: str) -> bool:
        """Whether a host, such as ipv4:10.0.0.1, ipv6:[::1] or unix, is a trusted proxy."""
        scheme, _, text = host.partition(":")
        if scheme == "unix" or not host:
            return self._unix
        address = _address(text)
        return address is not None and any(_within(address, network) for network in self._networks)


def caller_of(peer: str) -> str:
    """Of whom rows, jobs and waits are counted: scheme and host of a peer, scheme:host:port; in IPv6 its network."""
    host = peer.rpartition(":")[0]
    # So that most calls cost no more than this.
    return host if host.startswith("ipv4:") else _caller(host)


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """Who shares turns and limits: an IPv4 address, also in an IPv6 one, or an IPv6 network; empty if it is neither."""
    address = _address(host)
    if address is None:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))


@lru_cache(maxsize=4096)
def _caller(host: str) -> str:
    scheme, _, text = host.partition(":")
    network = network_of(text)
    return f"{scheme}:{network}" if network else host


def _peer(named: str) -> str:
    """The peer of an address that a proxy has named; empty if it is no address."""
    network = network_of(named)
    if not network:
        return ""
    return f"ipv6:[{network.partition('/')[0]}]:0" if ":" in network else f"ipv4:{network}:0"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        plain = text.replace("%5B", "[").replace("%5D", "]").strip("[]")
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _network(text: str) -> IPv4Network | IPv6Network:
    """A network as `_address` writes addresses: of IPv4 ones in IPv6, such as ::ffff:10.0.0.0/104, the IPv4 network."""
    network = ipaddress.ip_network(text, strict=False)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))


def _within(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network
