"""Addresses to listen on: IP addresses, host names, Unix sockets."""

import ipaddress


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
