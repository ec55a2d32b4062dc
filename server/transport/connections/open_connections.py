"""Counts the open connections of each caller (connection limits), though grpc closes them."""

import os
import socket
import time
from collections import Counter
from contextlib import suppress
from urllib.parse import unquote

_PRUNE_SECONDS = 0.05
_MAPPED = "::ffff:"


class OpenConnections:
    """Connections by file number: one whose number belongs to another file has been closed."""

    def __init__(self, max_connections: int, max_of_address: int) -> None:
        self._max = max_connections
        self._max_of_address = max_of_address
        self._open: dict[int, tuple[int, str, str, int]] = {}
        self._counts: Counter[str] = Counter()
        self._pruned = 0.0

    def admits(self, caller: str) -> bool:
        """Whether one more connection of a caller is within the limits."""
        if self._full(caller) and time.monotonic() - self._pruned > _PRUNE_SECONDS:
            self._prune()
            self._pruned = time.monotonic()
        return not self._full(caller)

    def add(self, number: int, caller: str, host: str = "", port: int = 0) -> None:
        """Count a connection of a caller, from a port of a host."""
        self._remove(number)
        self._open[number] = (_inode(number), caller, _plain(host), port)
        self._counts[caller] += 1

    def end(self, peer: str) -> bool:
        """End the connection of a peer, written as gRPC does; whether it was found. From any thread."""
        named, _, port = unquote(peer).partition(":")[2].rpartition(":")
        found = _plain(named.strip("[]")), port
        for number, (inode, _, host, port) in list(self._open.items()):
            if host and (host, str(port)) == found and _inode(number) == inode:
                with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
        return False

    def _full(self, caller: str) -> bool:
        return len(self._open) >= self._max or self._counts[caller] >= self._max_of_address

    def _prune(self) -> None:
        for number, (inode, *_) in list(self._open.items()):
            if _inode(number) != inode:
                self._remove(number)

    def _remove(self, number: int) -> None:
        if number in self._open:
            caller = self._open.pop(number)[1]
            self._counts[caller] -= 1
            if not self._counts[caller]:
                del self._counts[caller]


def _plain(host: str) -> str:
    """An address as both write it: gRPC's has the number of an interface, a socket's its name."""
    return host.removeprefix(_MAPPED).partition("%")[0]


def _inode(number: int) -> int:
    try:
        return os.fstat(number).st_ino
    except OSError:
        return 0
