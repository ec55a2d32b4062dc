"""Sockets that listen: on the addresses of a host, or on a Unix socket."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from server.transport import BindError
from server.transport.unix_socket import unix_socket

_BACKLOG = 4096
# A name may have addresses of a family, or of an interface, that this machine lacks.
_LACKING = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
# For a port that is free at all addresses.
_TRIES = 10


def listen_at(address: str) -> list[socket.socket]:
    """Sockets that listen on HOST:PORT, or on unix:PATH, which must have been claimed.

    Raises:
        BindError: as `listen`.
    """
    path = unix_socket(address)
    if path is not None:
        return _listen_unix(path.path)
    host, _, port = address.rpartition(":")
    return listen(host.strip("[]"), int(port))


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host, on one port; 0 chooses it.

    Raises:
        BindError: none of them can be bound, or one is in use or not allowed.
    """
    tries = 1 if port else _TRIES
    while True:
        tries -= 1
        try:
            return _listen_on_all(host, port)
        except OSError as error:
            # The port that was free at one address may be in use at another.
            if not tries or error.errno != errno.EADDRINUSE:
                raise BindError(f"cannot listen on {host}:{port}: {error}") from error


def port_of(listener: socket.socket) -> int:
    """Its port; 0 of a Unix socket, which has none."""
    return 0 if listener.family == socket.AF_UNIX else listener.getsockname()[1]


def release(listeners: Sequence[socket.socket], address: str) -> str:
    """Close what `listen_at` has opened, and return the address with the port that it had."""
    port = port_of(listeners[0])
    for listener in listeners:
        listener.close()
    path = unix_socket(address)
    if path is not None:
        path.remove()
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _listen_on_all(host: str, port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    lacking: OSError | None = None
    with ExitStack() as opened:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, *_, address in places):
            try:
                found.append(opened.enter_context(_listener(family, (address[0], port, *address[2:]))))
            except OSError as error:
                if error.errno not in _LACKING:
                    # Whose address it is would get calls that are meant for this server.
                    raise
                lacking = error
                continue
            port = port or port_of(found[0])
        if lacking is not None and not found:
            raise lacking
        opened.pop_all()
    return found


def _listen_unix(path: Path) -> list[socket.socket]:
    try:
        return [_listener(socket.AF_UNIX, str(path))]
    except OSError as error:
        raise BindError(f"cannot listen on {path}: {error.strerror}") from error


def _listener(family: int, address: tuple[str | int, ...] | str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The address of all interfaces takes IPv4 too.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.settimeout(0)
    except BaseException:
        listener.close()
        raise
    return listener
