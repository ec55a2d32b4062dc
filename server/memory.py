"""Memory that loading a model has used and freed."""

import ctypes
from contextlib import suppress


def hand_back() -> None:
    """Return freed memory to the system: glibc would keep what the largest warm-up batch has taken."""
    # Other C libraries have no such function, and no such habit.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
