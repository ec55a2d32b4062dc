"""Prescan of serialised protobuf messages: what parsing would cost, found out on the wire without parsing.

Protocol Buffers, "Encoding": https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from server.codec.tensors import MAX_AXES
from server.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

# Fields by number: None for one of bytes, the bytes that one may have at most, or those in the message that it holds.
Fields: TypeAlias = "Mapping[int, Fields | int | None]"

# Parsing this much takes up to 0.2 ms, whatever the fields.
LIGHT_BYTES = 4096

_OTHER: Fields = {}
_VARINT, _FIXED64, _LENGTH, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_SIZES = {_FIXED64: 8, _START_GROUP: 0, _END_GROUP: 0, _FIXED32: 4}
_LONGEST_VARINT = 10
# A request has a few; a walk over this many takes some 20 µs.
_MAX_WALKED = 64
# Far more than a request has attributes to shift, parameters, inputs and outputs.
_MAX_FIELDS = 4096
# `tensors.shape_of` counts the numbers, which may be short.
_MAX_SHAPE_BYTES = MAX_AXES * _LONGEST_VARINT
# Numbers that are not packed, as proto3 packs them, have a field each. A walk over this many takes a tenth of a second.
_MAX_NUMBERS = 2**17


class Prescan:
    """Tells what parsing messages of one kind will cost."""

    def __init__(self, kind: type[Message], max_rows: int) -> None:
        """Prescan a kind of message, of which one may hold `max_rows` image files."""
        # The descriptor type has two implementations with the same attributes.
        self._fields = _notable_fields(cast("Descriptor", kind.DESCRIPTOR))
        self._max_fields = _MAX_FIELDS + max_rows

    def bytes_to_parse(self, payload: bytes) -> int:
        """Size of a message without the contents of its fields of bytes, which parsing only copies.

        The whole size, if it is light, or has so many fields that finding out would take longer than a small batch.
        """
        size = len(payload)
        if size <= LIGHT_BYTES:
            return size
        copied = 0
        for count, (kind, _, content_bytes, _) in enumerate(_walk(payload, self._fields)):
            if count == _MAX_WALKED:
                return size
            if kind is None:
                copied += content_bytes
        return size - copied

    def check(self, payload: bytes) -> None:
        """Refuse a message with more fields, or a longer shape, than any request has.

        The parser makes an object of each field, and no other thread of the process runs meanwhile.

        Raises:
            InvalidArgumentError: too many fields, or sizes in a shape.
        """
        fields = 0
        for count, (kind, has_length, content_bytes, _) in enumerate(_walk(payload, self._fields), 1):
            fields += has_length
            if isinstance(kind, int) and content_bytes > kind:
                expected = f"expected at most {MAX_AXES} sizes in a shape, which take up to {kind} bytes"
                raise InvalidArgumentError("request", f"{expected}, got {content_bytes} bytes")
            if fields > self._max_fields:
                raise InvalidArgumentError("request", f"expected at most {self._max_fields} fields, got more")
            if count > _MAX_NUMBERS:
                raise InvalidArgumentError(
                    "request", f"expected packed numbers, got more than {_MAX_NUMBERS} that are not"
                )

    @staticmethod
    def beginning(payload: bytes) -> bytes:
        """Whole fields from the beginning of a message that are light to parse."""
        stop = 0
        for *_, end in _walk(payload[: LIGHT_BYTES + 1], {}):
            if end > LIGHT_BYTES:
                break
            stop = end
        return payload[:stop]


def _notable_fields(message: Descriptor) -> Fields:
    """Fields of bytes and shapes in a message and in the messages that it holds."""
    found: dict[int, Fields | int | None] = {}
    fields: Sequence[FieldDescriptor] = message.fields
    for field in fields:
        if field.type == field.TYPE_BYTES:
            found[field.number] = None
        elif field.name == "shape":
            found[field.number] = _MAX_SHAPE_BYTES
        elif field.message_type is not None and (inner := _notable_fields(field.message_type)):
            found[field.number] = inner
    return found


def _walk(message: bytes, fields: Fields) -> Iterator[tuple[Fields | int | None, bool, int, int]]:
    """Yield each field: what `fields` says of it, whether it has a length, its size in bytes, and its end.

    Includes those of messages in `fields`. What follows bytes that are no field is left out: the parser refuses such a
    message.
    """
    parts = [(0, len(message), fields)]
    while parts:
        start, stop, inside = parts.pop()
        while start < stop:
            tag, start = _varint(message, start)
            size, start = _size(message, start, tag & 7)
            kind = inside.get(tag >> 3, _OTHER)
            end = min(start + size, stop)
            if kind is not None and not isinstance(kind, int) and kind:
                parts.append((start, end, kind))
            yield kind, tag & 7 == _LENGTH, end - start, start + size
            start += size


def _size(message: bytes, start: int, kind: int) -> tuple[int, int]:
    """Size and begin of a field's content; groups are taken apart."""
    if kind == _LENGTH:
        return _varint(message, start)
    if kind == _VARINT:
        return _varint(message, start)[1] - start, start
    return _SIZES.get(kind, len(message)), start


def _varint(message: bytes, start: int) -> tuple[int, int]:
    """A number and where it ends."""
    number = shift = 0
    for byte in message[start : start + _LONGEST_VARINT]:
        number |= (byte & 0x7F) << shift
        start += 1
        if byte <= 0x7F:  # noqa: PLR2004 (seven bits a byte)
            break
        shift += 7
    return number, start
