"""Whose connection is next (fair queueing): in turns, and callers whose connections took long after all others."""

import socket
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping

# Long enough for the end of a storm, and for its next one to come last.
_CHARGED_SECONDS = 60.0
# Some calls among a thousand others.
_FREE_SECONDS = 0.01


class Turns:
    """A queue of connections for each caller, and what the callers have cost lately, in seconds."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[socket.socket]] = OrderedDict()
        self._count = 0
        self._charges: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[socket.socket]:
        for queue in self._waiting.values():
            yield from queue

    def of(self, caller: str) -> int:
        """How many connections of a caller wait."""
        return len(self._waiting.get(caller, ()))

    def add(self, caller: str, connection: socket.socket) -> None:
        """Have a connection wait for its turn."""
        self._waiting.setdefault(caller, deque()).append(connection)
        self._count += 1

    def next(self) -> str:
        """The caller whose turn it is: of those with no charge, else the one with the smallest."""
        return next((caller for caller in self._waiting if caller not in self._charges), None) or min(
            self._waiting, key=self.charge
        )

    def all_charged(self) -> bool:
        """Whether only callers wait that have a charge."""
        return self._waiting.keys() <= self._charges.keys()

    def take(self, caller: str) -> socket.socket:
        """The caller's oldest connection; its next one comes after those of the others."""
        queue = self._waiting.pop(caller)
        connection = queue.popleft()
        if queue:
            self._waiting[caller] = queue
        self._count -= 1
        return connection

    def charge(self, caller: str) -> float:
        """What a caller's connections have cost, in s."""
        return self._charges.get(caller, (0.0, 0.0))[0]

    def add_charge(self, shares: Mapping[str, int], seconds: float) -> None:
        """Charge callers for their shares of a time, unless they are small, and forget charges that are old."""
        now, total = time.monotonic(), sum(shares.values())
        self._charges = {
            caller: (charge, since)
            for caller, (charge, since) in self._charges.items()
            if now - since < _CHARGED_SECONDS
        }
        for caller, share in shares.items():
            charge = seconds * share / total if share else 0.0
            if charge > _FREE_SECONDS:
                self._charges[caller] = (self.charge(caller) + charge, now)
