"""Tuning of malloc: how much freed memory the C library keeps."""

import ctypes
import os
from contextlib import suppress

# From malloc.h. Two arenas instead of eight per core, each of which would keep what its threads once needed. A few MiB
# that a batch frees are kept for the next, so that pages are not requested again each time.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_OPTIONS = {_M_ARENA_MAX: 2, _M_TRIM_THRESHOLD: 8 * 2**20, _M_MMAP_THRESHOLD: 4 * 2**20}


def tune() -> None:
    """Keep the process small under load, unless MALLOC_… variables are set; call it before any thread starts."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    # Other C libraries lack this function.
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)


def trim() -> None:
    """Return freed memory to the system: an allocator would keep what the largest warm-up batch used."""
    library = ctypes.CDLL(None)
    # tcmalloc, where it is preloaded, has its own function.
    for name, arguments in (("MallocExtension_ReleaseFreeMemory", ()), ("malloc_trim", (0,))):
        with suppress(AttributeError):
            getattr(library, name)(*arguments)
            return
