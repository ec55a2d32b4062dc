"""When a batch leaves (dynamic batching): how long each loop gathers requests before it runs what waits."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class GatherPolicy:
    """Limits on the time that accepted requests wait for others to share their run.

    Turns are those of an event loop. An event loop gets one call at a time, each some turns after the previous one;
    the native transport gets all that have arrived at once.
    """

    lone_turns: int = 2
    """Turns without a new call after which a batch leaves, while calls arrive singly."""
    quiet_turns: int = 5
    """The same, while several calls arrive together."""
    max_turns: int = 64
    """Turns, with new calls or without, after which it leaves regardless."""
    extra_receives: int = 1
    """Further receives of the native transport, for calls that arrived during the first one: a larger batch costs less
    than another one. More receives cost as much as they save, because its I/O threads and the clients idle meanwhile.
    """
    unread_seconds: float = 0.005
    """How long requests of a stream wait while an answer waits to be written. Those of a client that does not read run
    after this, so that their rows do not fill the queue."""

    def leaves(self, turns: int, quiet_turns: int, arrivals: int) -> bool:
        """Whether an event loop should run what waits.

        Args:
            turns: since the batch was begun.
            quiet_turns: since the last new call.
            arrivals: calls in this batch or in the one before it, whichever has more.
        """
        return quiet_turns >= (self.quiet_turns if arrivals > 1 else self.lone_turns) or turns >= self.max_turns


def seconds_to_fill(rows: int, max_rows: int, window_end: float) -> float:
    """Seconds that a batch of `rows` may still wait to fill (`--max-queue-delay-ms`); 0 when empty, full or late.

    `window_end` is a time of time.monotonic().
    """
    return max(window_end - time.monotonic(), 0.0) if 0 < rows < max_rows else 0.0
