"""Retry policy: exponential backoff with jitter; deadlines."""

import math
import random
from dataclasses import dataclass

from hourglass_client.errors import HourglassError, ResourceExhaustedError, UnavailableError, invalid

# gRPC takes far more than these 30 years for a time that has passed.
_ENDLESS_SECONDS = 1e9
# Far beyond any bound, and far below where a float overflows.
_MOST_DOUBLINGS = 100


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with full jitter, always within the call's deadline.

    Retried are UNAVAILABLE, and RESOURCE_EXHAUSTED when the server names a time to wait (without one the message is
    too large, and a retry would fail again). A call whose connection breaks in flight is UNAVAILABLE too and may have
    run: running twice changes nothing on the server, but a Sample without a seed then draws another one.
    """

    attempts: int = 4
    """Attempts in total; 1 turns retries off."""
    first_delay_seconds: float = 0.05
    max_delay_seconds: float = 2.0

    def delay_seconds(self, error: HourglassError, attempt: int) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 1); None: give up."""
        if attempt >= self.attempts:
            return None
        backoff = random.uniform(0, self._ceiling_seconds(attempt))  # noqa: S311 (jitter needs no cryptography)
        if isinstance(error, UnavailableError):
            return backoff
        if isinstance(error, ResourceExhaustedError) and error.retry_after_seconds is not None:
            return error.retry_after_seconds + backoff
        return None

    def _ceiling_seconds(self, attempt: int) -> float:
        return min(self.max_delay_seconds, self.first_delay_seconds * 2 ** min(attempt - 1, _MOST_DOUBLINGS))


def deadline_seconds(timeout_seconds: float | None) -> float | None:
    """A timeout as gRPC takes it: None, for no deadline, if it is infinite or longer than anybody waits.

    Raises:
        InvalidArgumentError: it is not a number.
    """
    if timeout_seconds is None or timeout_seconds > _ENDLESS_SECONDS:
        return None
    if math.isnan(timeout_seconds):
        raise invalid("timeout_seconds", "expected seconds, or infinity for no deadline, got nan")
    return timeout_seconds
