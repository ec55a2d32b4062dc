"""Fast path: a request identical to an earlier one except for its rows and its id is recognised instead of parsed.

Callers send the same request over and over with other images in it, some with an id of its own. It is matched by the
bytes around its rows and id; what was found out by parsing the first one (its model, shape, type, how it is answered)
holds for all of them, much as a prepared statement does for its parameters.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import ReferenceType

from google.protobuf.message import DecodeError

from server.batching.entry import Done, Entry
from server.calls.call import Call
from server.codec import protobuf_wire
from server.models.table import ModelTable, ServedModel
from server.types import Buffer

# Message lengths known at a time, and templates for one length.
_MAX_LENGTHS = 1024
_MAX_TEMPLATES = 4
# Bytes around the data that are worth keeping.
_MAX_AROUND_BYTES = 1024
# Bytes of data that are worth a trial: with fewer it could succeed by chance, with more parsing is relatively cheap.
_DATA_BYTES = range(16, 256 * 1024)
# Unknown messages between two attempts to learn one whose length already has a template.
_LEARN_INTERVAL = 32
_A = ord("a")


@dataclass(frozen=True)
class PreparedRequest:
    """What parsing a request found out, which holds for all requests like it: which graph runs its rows, and how."""

    table: ModelTable
    names: tuple[str, str]
    """Model and version as the request gave them; either may be empty."""
    served: ReferenceType[ServedModel]
    """The version that they named. Weak: a cache must not keep a version alive."""
    signature: str
    count: int
    convert: Callable[[bytes], Buffer] | None
    """From the bytes of the request to checked rows of the graph; None if they need neither conversion nor check."""
    done: Done
    repeats: bool = True
    """Whether it holds for the next request like it, too."""

    def submit(self, call: Call, served: ServedModel, data: bytes, now: float) -> None:
        """Queue the rows in `data` for the graph; `now` is a time of time.monotonic().

        Raises:
            InvalidArgumentError: values out of range.
            DeadlineError, OverloadedError: as `Batcher.submit`.
        """
        call.served = served
        rows = data if self.convert is None else self.convert(data)
        served.batchers[self.signature].submit(Entry(call, rows, self.count, self.done), now)


# A request that is ready to be submitted: what parsing it found out, its model version, and the bytes of its rows.
Ready: TypeAlias = tuple[PreparedRequest, ServedModel, bytes]


@dataclass(frozen=True)
class IdField:
    """The field of a request that holds its id; answers have it under the same number."""

    number: int
    of: Callable[[Any], str]


@dataclass(frozen=True)
class Template:
    """Messages of one length: the bytes around the id, if there is one, and around the data, and where these lie."""

    head: bytes
    """Before the id; without one, before the data."""
    named: slice | None
    """The id with its tag and length, which an answer repeats."""
    middle: bytes
    """Between the id and the data."""
    tail: bytes
    data: slice
    prepared: PreparedRequest


class ParseCache:
    """Templates for the requests of one method.

    `data_of` returns the bytes of the rows of a parsed request; `id_field` is what answers repeat.
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
        self._templates: dict[int, list[Template]] = {}
        self._misses = 0

    def size(self) -> int:
        """Templates that are known."""
        return sum(map(len, self._templates.values()))

    def find(self, call: Call, payload: bytes) -> Ready | None:
        """Recognise a message and note its id on the call; None if it must be parsed."""
        for template in self._templates.get(len(payload), ()):
            if not (payload.startswith(template.head) and payload.endswith(template.tail)):
                continue
            if template.named is not None:
                if not payload.startswith(template.middle, template.named.stop):
                    continue
                call.echo = payload[template.named]
                # Other bytes may be invalid UTF-8, which parsing finds out.
                if not call.echo.isascii():
                    return None
            prepared = template.prepared
            served = prepared.served()
            if served is None or prepared.table.find(prepared.names) is not served:
                # Another version serves by now.
                self._templates.pop(len(payload), None)
                return None
            return prepared, served, payload[template.data]
        return None

    def learn(self, payload: bytes, prepared: PreparedRequest, data: bytes) -> None:
        """Remember a message that was parsed, and the data in it, unless the next one like it may mean another."""
        if not prepared.repeats:
            return
        known = self._templates.get(len(payload))
        self._misses += 1
        if known is not None and self._misses % _LEARN_INTERVAL:
            return
        if len(payload) - len(data) > _MAX_AROUND_BYTES or len(data) not in _DATA_BYTES:
            return
        if len(self._templates) >= _MAX_LENGTHS:
            self._templates.clear()  # Eviction of all: what callers still send is learned again at once.
        template = self._template(payload, prepared, data)
        newest = [] if template is None else [template]
        self._templates[len(payload)] = [*newest, *(known or [])][:_MAX_TEMPLATES]

    def _template(self, payload: bytes, prepared: PreparedRequest, data: bytes) -> Template | None:
        """Find data and id in a message. Their bytes may occur elsewhere by chance; a trial with other bytes tells."""
        start = payload.find(data)
        head, tail = payload[:start], payload[start + len(data) :]
        name = b"" if self._id is None else self._id.of(self._parse(payload)).encode()
        header = protobuf_wire.field_header(self._id.number, len(name)) if self._id and name else b""
        first = head.find(header + name) if name else start
        stop = first + len(header) + len(name)
        before, middle = head[: first + len(header)], head[stop:]
        # Every byte of the other id differs, so that its place is certain.
        other = bytes(_A + (byte == _A) for byte in name)
        trial = secrets.token_bytes(len(data))
        try:
            parsed = self._parse(before + other + middle + trial + tail)
        except DecodeError:
            return None
        if self._data_of(parsed) != trial or (self._id and self._id.of(parsed).encode() != other):
            return None
        named = slice(first, stop) if name else None
        return Template(before, named, middle, tail, slice(start, start + len(data)), prepared)
