"""Accepts connections for grpc (admission control of connections): no more than Python can take the calls of.

grpc core queues calls that Python has not taken yet, without a limit, and keeps those of closed connections: two
seconds of new connections with a hundred calls each fill gigabytes. Here connections are given to core a few at a time,
and the next ones once a probe, which queues behind their calls, has come through. By then most of a flood has gone.
Callers whose connections took long have the next ones served one at a time, after those of all others.
"""

import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from server.transport.connections.begun_calls import BegunCalls
from server.transport.connections.open_connections import OpenConnections
from server.transport.connections.peer import begins_storm, caller_of, has_gone
from server.transport.connections.probe import Probe
from server.transport.connections.turns import Turns

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
_LATELY_SECONDS = 5.0
# After an error such as no file being left.
_PAUSE_SECONDS = 0.1


class Acceptor:
    """The thread that accepts."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        give: Callable[[int], None],
        open_: OpenConnections,
        probe: Probe,
        begun: BegunCalls,
    ) -> None:
        self._listeners = listeners
        self._give = give
        self._open = open_
        self._probe = probe
        self._begun = begun
        self._turns = Turns()
        # Callers of the connections that no probe has followed through yet, and how many of them this one follows.
        self._given: list[str] = []
        self._followed = 0
        # The newest, with time and port: calls may come after the probe that followed their connection.
        self._lately: deque[tuple[float, str, str]] = deque(maxlen=_MAX_WAITING_BEHIND)
        self._probed = 0.0
        # Whether the last one took long.
        self._slow = False
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
        for source in (*self._listeners, self._woken, self._wake, *self._turns):
            source.close()
        self._selector.close()

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
        for key, _ in self._selector.select(_BEHIND_SECONDS if self._probed or self._turns else None):
            key.data()
        if self._came_through or (self._probed and time.monotonic() - self._probed > _LOST_SECONDS):
            self._came_through = False
            if self._probed:
                self._end_group()
        self._give_waiting()

    def _end_group(self) -> None:
        seconds, calls = time.monotonic() - self._probed, self._begun.stop()
        self._slow = seconds > _BEHIND_SECONDS
        if self._slow:
            self._turns.add_charge(self._shares(calls), seconds)
        del self._given[: self._followed]
        self._probed = 0.0
        self._probe.end()

    def _shares(self, calls: Mapping[str, int]) -> Counter[str]:
        """How much of a turn is due to each caller: by the calls of its new connections, or else by their number."""
        since = self._probed - _LATELY_SECONDS
        lately = [(caller, port) for at, caller, port in self._lately if at > since]
        shares: Counter[str] = Counter()
        for caller, port in lately:
            shares[caller] += calls.get(port, 0)
        return shares if shares.total() else Counter(caller for caller, _ in lately)

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
        return len(self._turns) < _MAX_WAITING or self._behind() or self._turns.all_charged()

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
            self._queue(connection, address)

    def _queue(self, connection: socket.socket, address: tuple[str, int] | str) -> None:
        caller = caller_of(connection, address[0] if isinstance(address, tuple) else "")
        count = len(self._turns)
        if count >= _MAX_WAITING and (
            self._turns.of(caller) >= _MAX_WAITING_OF_ADDRESS or count >= _MAX_WAITING_BEHIND
        ):
            connection.close()
            return
        self._turns.add(caller, connection)

    def _give_waiting(self) -> None:
        while self._turns and len(self._given) < _GROUP:
            caller = self._turns.next()
            charged = self._turns.charge(caller) > 0
            if charged and self._given:
                break
            self._give_one(caller, self._turns.take(caller), suspect=charged or self._slow)
        if self._given and not self._probed:
            self._probed, self._followed = time.monotonic(), len(self._given)
            self._begun.start()
            self._send_probe()

    def _send_probe(self) -> None:
        try:
            self._probe.call()
        except OSError:
            # No file is left for it: a pause instead.
            time.sleep(_PAUSE_SECONDS)
            self.came_through()

    def _give_one(self, caller: str, connection: socket.socket, *, suspect: bool) -> None:
        if has_gone(connection) or not self._open.admits(caller):
            connection.close()
            return
        if begins_storm(connection):
            if suspect:
                connection.close()
                return
            # Its next connections wait until it is known what this one takes.
            self._turns.add_charge({caller: 1}, _BEHIND_SECONDS)
        connection.settimeout(0)
        host, port = "", 0
        if connection.family != socket.AF_UNIX:
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                host, port = connection.getpeername()[:2]
            except OSError:
                # It has been reset meanwhile.
                connection.close()
                return
        self._open.add(connection.fileno(), caller, host, port)
        self._given.append(caller)
        self._lately.append((time.monotonic(), caller, str(port)))
        self._give(connection.detach())
