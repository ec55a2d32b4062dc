"""Requests that differ from an earlier one in nothing but their rows and their id: recognised, and not parsed again.

Callers send the same request over and over with other images in it, some under an id of its own. Around the bytes of
these their messages are equal; what was found out of the first (its model, shape, type, how it is answered) holds for
all.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType

from google.protobuf.message import DecodeError

from server.batching.row_queue import Buffer, Done, Entry
from server.calls.call import Call
from server.codec import protobuf_wire
from server.models.table import ModelTable, ServedModel

# Lengths of messages that are known at a time, and layouts of one length.
_MAX_LENGTHS = 1024
_MAX_ALIKE = 4
# Bytes around the data that are worth keeping.
_MAX_AROUND = 1024
# Bytes of data that are worth a trial: with fewer it could succeed by chance, with more parsing costs little.
_DATA_BYTES = range(16, 256 * 1024)
# Unknown messages between two attempts to learn, of lengths that have had one.
_PATIENCE = 32
_A = ord("a")


@dataclass(frozen=True)
class Route:
    """What was found out of a request; `served` is the version that it holds for."""

    table: ModelTable
    model: str
    version: str
    served: ReferenceType[ServedModel]
    signature: str
    count: int
    convert: Callable[[bytes], Buffer] | None
    """From the bytes of the request to rows of the graph; checks them."""
    done: Done

    def run(self, call: Call, data: bytes) -> bool:
        """Queue the rows for the graph; false when another version serves by now."""
        served = self.table.find(self.model, self.version)
        if served is None or served is not self.served():
            return False
        call.served = served
        rows = data if self.convert is None else self.convert(data)
        # It has come in just now: the calls of a round share that time, and what is said of it.
        served.batchers[self.signature].submit(Entry(call, rows, self.count, self.done), call.arrival)
        return True


@dataclass(frozen=True)
class IdField:
    """The field of a request that callers know it by; answers have it under the same number."""

    number: int
    of: Callable[[Any], str]


@dataclass(frozen=True)
class _Layout:
    """Messages of one length: the bytes around the id, where there is one, and around the data, and where these lie."""

    head: bytes
    """Before the id; without one, before the data."""
    named: slice | None
    """The id with its tag and length, as it stands in an answer too."""
    middle: bytes
    """Between the id and the data."""
    tail: bytes
    data: slice
    route: Route


class Layouts:
    """What is known of the requests of one method.

    `data_of` gives the bytes of the rows in a parsed request; `id_field` is what answers repeat.
    """

    def __init__(
        self,
        parse: Callable[[bytes], Any],
        data_of: Callable[[Any], bytes],
        id_field: IdField | None = None,
    ) -> None:
        self._parse = parse
        self._data_of = data_of
        self._id = id_field
        self._known: dict[int, list[_Layout]] = {}
        self._misses = 0

    def size(self) -> int:
        """Layouts that are known."""
        return sum(map(len, self._known.values()))

    def run(self, call: Call, payload: bytes) -> bool:
        """Queue the rows of a message that is known; false where it must be parsed."""
        for layout in self._known.get(len(payload), ()):
            if not (payload.startswith(layout.head) and payload.endswith(layout.tail)):
                continue
            if layout.named is not None:
                if not payload.startswith(layout.middle, layout.named.stop):
                    continue
                call.echo = payload[layout.named]
                # Other bytes may be no text, which parsing tells.
                if not call.echo.isascii():
                    return False
            if layout.route.run(call, payload[layout.data]):
                return True
            self._known.pop(len(payload), None)
            return False
        return False

    def learn(self, payload: bytes, route: Route, data: bytes) -> None:
        """Remember a message that was parsed, and the data in it."""
        known = self._known.get(len(payload))
        self._misses += 1
        if known is not None and self._misses % _PATIENCE:
            return
        if len(payload) - len(data) > _MAX_AROUND or len(data) not in _DATA_BYTES:
            return
        if len(self._known) >= _MAX_LENGTHS:
            self._known.clear()
        layout = self._layout(payload, route, data)
        self._known[len(payload)] = [*([] if layout is None else [layout]), *(known or [])][:_MAX_ALIKE]

    def _layout(self, payload: bytes, route: Route, data: bytes) -> _Layout | None:
        """Where data and id lie in a message: their bytes may stand elsewhere by chance, a trial with others tells."""
        start = payload.find(data)
        head, tail = payload[:start], payload[start + len(data) :]
        name = b"" if self._id is None else self._id.of(self._parse(payload)).encode()
        opening = protobuf_wire.opening(self._id.number, len(name)) if self._id and name else b""
        first = head.find(opening + name) if name else start
        stop = first + len(opening) + len(name)
        before, middle = head[: first + len(opening)], head[stop:]
        # No byte of it is the same, so that its place is certain.
        other = bytes(_A + (byte == _A) for byte in name)
        trial = secrets.token_bytes(len(data))
        try:
            parsed = self._parse(before + other + middle + trial + tail)
        except DecodeError:
            return None
        if self._data_of(parsed) != trial or (self._id and self._id.of(parsed).encode() != other):
            return None
        named = slice(first, stop) if name else None
        return _Layout(before, named, middle, tail, slice(start, start + len(data)), route)
