"""Damage to valid bytes, as hypothesis draws and shrinks it."""

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# `make fuzz` asks for more.
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "25"))
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Edit = tuple[str, float, bytes]
_EDITS = st.tuples(
    st.sampled_from(("set", "insert", "delete", "truncate", "repeat")),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=8),
)
EDITS = st.lists(_EDITS, max_size=6)


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Near misses mostly, anything at all sometimes."""
    return EDITS.map(lambda edits: damage(valid, edits)) | st.binary(max_size=400)


def damage(data: bytes, edits: list[Edit]) -> bytes:
    """The bytes after all edits; places are shares of the length."""
    for kind, place, piece in edits:
        data = _KINDS[kind](data, int(place * len(data)), piece)
    return data


_KINDS: dict[str, Callable[[bytes, int, bytes], bytes]] = {
    "set": lambda data, at, piece: data[:at] + piece + data[at + len(piece) :],
    "insert": lambda data, at, piece: data[:at] + piece + data[at:],
    "delete": lambda data, at, piece: data[:at] + data[at + 4 * len(piece) :],
    "truncate": lambda data, at, _: data[:at],
    "repeat": lambda data, at, piece: data[:at] + data[at : at + 16 * len(piece)] * 2 + data[at:],
}
