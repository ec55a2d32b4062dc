"""HTTP proxies of the environment: the one that gRPC connects through, for errors to name."""

import os
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

# In gRPC's order (src/core/handshaker/http_connect/http_proxy_mapper.cc); it reads lower case only.
_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")


def proxy_advice(host: str) -> str:
    """What to say when a connection to `host` fails: its proxy and the variable that names it; empty without one."""
    variable = next((name for name in _VARIABLES if name in os.environ), None)
    if variable is None or _excepted(host):
        return ""
    try:
        parts = urlsplit(os.environ[variable])
        # Without user and password.
        address = f"{parts.hostname}:{parts.port or 80}"
    except ValueError:
        return ""
    if parts.scheme != "http" or not parts.hostname:
        return ""
    return (
        f"the environment variable {variable} leads this connection through the proxy {address}: "
        f"set no_proxy={host} to connect directly"
    )


def _excepted(host: str) -> bool:
    """Whether `no_proxy` names the host, a domain that it ends with, or a network that holds it."""
    listed = next((os.environ[name] for name in _EXCEPTIONS if name in os.environ), "")
    entries = [entry.strip().lower() for entry in listed.split(",") if entry]
    return any(host.lower().endswith(entry) or _in_network(host, entry) for entry in entries)


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
