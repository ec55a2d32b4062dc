"""The C library's memory: how much of what is freed it keeps."""

import ctypes
import os
from contextlib import suppress

# Of malloc.h. Two arenas instead of eight a core, each of which would keep what its threads once needed; and what a
# batch has freed is kept for the next up to a few MiB, so that its pages are not asked for again each time.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_OPTIONS = {_M_ARENA_MAX: 2, _M_TRIM_THRESHOLD: 8 * 2**20, _M_MMAP_THRESHOLD: 4 * 2**20}


def settle() -> None:
    """Keep the process small under load, unless MALLOC_… are set; to be called before any thread starts."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    # Other C libraries have no such function.
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        for option, value in _OPTIONS.items():
            library.mallopt(option, value)


def hand_back() -> None:
    """Return freed memory to the system: an allocator would keep what the largest warm-up batch has taken."""
    library = ctypes.CDLL(None)
    # tcmalloc, where it is preloaded, has a function of its own.
    for name, arguments in (("MallocExtension_ReleaseFreeMemory", ()), ("malloc_trim", (0,))):
        with suppress(AttributeError):
            getattr(library, name)(*arguments)
            return
