"""Accepts connections for grpc (admission control of connections): no more than Python can take the calls of.

grpc core queues calls that Python has not taken yet, without a limit, and keeps those of closed connections: two
seconds of new connections with a hundred calls each fill gigabytes. Here connections are given to core a few at a time,
and the next ones once a probe, which queues behind their calls, has come through. By then most of a flood has gone.
"""

import logging
import selectors
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

from server.transport import BindError
from server.transport.connections.open_connections import OpenConnections
from server.transport.connections.probe import Probe

_LOGGER = logging.getLogger(__name__)
# Given to core before a probe has come through; each may bring as many calls as its limit of concurrent streams.
_GROUP = 4
# Accepted and not given yet; more wait in the kernel.
_MAX_WAITING = 64
# Of one address while behind: as many as a busy machine's programs open at once.
_MAX_WAITING_OF_ADDRESS = 256
# Once a probe takes longer, connections are accepted all the same, so that each address has its turn, and closed if
# they are too many: of one address, and of all.
_BEHIND_SECONDS = 0.1
_MAX_WAITING_BEHIND = 1024
# A probe that takes longer is lost.
_LOST_SECONDS = 5.0
_BACKLOG = 4096
# After an error such as no file being left.
_PAUSE_SECONDS = 0.1
# TCP_INFO begins with the state: in CLOSE and CLOSE_WAIT the client has closed its end (Linux).
_GONE = frozenset({7, 8})


class Acceptor:
    """The thread that accepts, with a queue for each address, served in turns (round robin)."""

    def __init__(
        self, listeners: Sequence[socket.socket], give: Callable[[int], None], open_: OpenConnections, probe: Probe
    ) -> None:
        self._listeners = listeners
        self._give = give
        self._open = open_
        self._probe = probe
        self._waiting: OrderedDict[str, deque[socket.socket]] = OrderedDict()
        self._count = 0
        self._given = 0
        self._probed = 0.0
        self._came_through = False
        self._closing = False
        self._listening = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="accept")

    def start(self) -> None:
        """Accept connections."""
        for end in (self._woken, self._wake):
            end.settimeout(0)
        self._selector.register(self._woken, selectors.EVENT_READ, self._take_wakes)
        self._thread.start()

    def came_through(self) -> None:
        """Note that the probe has come through; called on another thread."""
        self._came_through = True
        self._notify()

    def close(self) -> None:
        """Accept nothing more, and close the connections that wait."""
        self._closing = True
        self._notify()
        self._thread.join()
        self._probe.end()
        for source in (*self._listeners, self._woken, self._wake, *self._left()):
            source.close()
        self._selector.close()

    def _left(self) -> Iterator[socket.socket]:
        for queue in self._waiting.values():
            yield from queue

    def _notify(self) -> None:
        with suppress(OSError):
            self._wake.send(b"\0")

    def _take_wakes(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)

    def _run(self) -> None:
        while not self._closing:
            try:
                self._turn()
            except Exception:
                # No error may end this thread: there is no other.
                _LOGGER.exception("a turn of accepting connections failed")
                time.sleep(_PAUSE_SECONDS)

    def _turn(self) -> None:
        self._listen(wanted=self._accepts())
        for key, _ in self._selector.select(_BEHIND_SECONDS if self._probed or self._count else None):
            key.data()
        if self._came_through or (self._probed and time.monotonic() - self._probed > _LOST_SECONDS):
            self._came_through = False
            self._probed, self._given = 0.0, 0
            self._probe.end()
        self._give_waiting()

    def _listen(self, *, wanted: bool) -> None:
        """Wait for connections, or leave them in the kernel."""
        if wanted == self._listening:
            return
        self._listening = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, partial(self._accept, listener))
            else:
                self._selector.unregister(listener)

    def _behind(self) -> bool:
        return bool(self._probed) and time.monotonic() - self._probed > _BEHIND_SECONDS

    def _accepts(self) -> bool:
        return self._count < _MAX_WAITING or self._behind()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MAX_WAITING):
            if not self._accepts():
                return
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # No file is left, for example: the connection stays where it is.
                time.sleep(_PAUSE_SECONDS)
                return
            self._queue(connection, address[0])

    def _queue(self, connection: socket.socket, host: str) -> None:
        queue = self._waiting.get(host, ())
        if self._count >= _MAX_WAITING and (
            len(queue) >= _MAX_WAITING_OF_ADDRESS or self._count >= _MAX_WAITING_BEHIND
        ):
            connection.close()
            return
        self._waiting.setdefault(host, deque()).append(connection)
        self._count += 1

    def _give_waiting(self) -> None:
        while self._count and self._given < _GROUP:
            host, connection = self._next()
            if _has_gone(connection) or not self._open.admits(host):
                connection.close()
                continue
            connection.settimeout(0)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection.fileno(), host, connection.getpeername()[1])
            self._given += 1
            self._give(connection.detach())
        if self._given and not self._probed:
            self._probed = time.monotonic()
            self._probe.call()

    def _next(self) -> tuple[str, socket.socket]:
        """The oldest connection of the address whose turn it is."""
        host, queue = self._waiting.popitem(last=False)
        connection = queue.popleft()
        if queue:
            self._waiting[host] = queue
        self._count -= 1
        return host, connection


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host, on one port; 0 chooses it.

    Raises:
        BindError: none of them can be bound.
    """
    found: list[socket.socket] = []
    failure: OSError | None = None
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"cannot listen on {host}:{port}: {error}") from error
    for family, *_, address in dict.fromkeys(places):
        try:
            found.append(_listener(family, (address[0], port, *address[2:])))
        except OSError as error:
            # A name may have addresses of a family that this machine lacks.
            failure = error
            continue
        port = port or found[0].getsockname()[1]
    if failure is not None and not found:
        raise BindError(f"cannot listen on {host}:{port}: {failure}") from failure
    return found


def _listener(family: int, address: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
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


def _has_gone(connection: socket.socket) -> bool:
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _GONE
    except OSError:
        return True
