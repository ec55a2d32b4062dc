"""How many calls each connection has begun (accounting), while somebody wants to know."""

from collections import Counter


class BegunCalls:
    """Counts by the port of the peer; counted on the transport's thread, read on another."""

    def __init__(self) -> None:
        self.counting = False
        self._of_port: Counter[str] = Counter()

    def start(self) -> None:
        """Count from now on."""
        self._of_port = Counter()
        self.counting = True

    def add(self, peer: str) -> None:
        """Count a call of a peer, written as gRPC does."""
        self._of_port[peer.rpartition(":")[2]] += 1

    def stop(self) -> Counter[str]:
        """Count no more; returns the calls of each port since the start, none of Unix sockets."""
        self.counting = False
        return self._of_port
