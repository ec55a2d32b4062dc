"""Writes responses in protobuf JSON (ProtoJSON): .proto field names, bytes as base64, 64-bit integers as texts.

https://protobuf.dev/programming-guides/json/. Protobuf's own writer takes more than twice as long for the many regions
of Detect, and blocks every other thread for a tenth of it.
"""

import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Add: TypeAlias = Callable[[str], object]
"""Takes the next piece of JSON."""
Writer: TypeAlias = Callable[[Any, Add], object]
"""Gives the pieces of a value."""

# Written in a fifth of a millisecond; whole groups of three bytes, which are four characters.
_BYTES_AT_ONCE = 96 * 1024
_NOT_FINITE = {math.inf: '"Infinity"', -math.inf: '"-Infinity"'}


def write(message: Message) -> bytes:
    """JSON with all fields, except absent ones of `optional`, `oneof` or messages."""
    parts: list[str] = []
    _message(message, parts.append)
    return "".join(parts).encode()


class _Field(NamedTuple):
    name: str
    start: str
    """Its name in JSON."""
    has_presence: bool
    write: Writer


def _message(message: Message, add: Add) -> None:
    between = "{"
    for name, start, has_presence, write_value in _fields(cast("Descriptor", message.DESCRIPTOR)):
        if not has_presence or message.HasField(name):
            add(between + start)
            write_value(getattr(message, name), add)
            between = ", "
    add("}" if between == ", " else "{}")


@cache
def _fields(message: Descriptor) -> list[_Field]:
    fields = cast("list[FieldDescriptor]", message.fields)
    return [_Field(field.name, f'"{field.name}": ', field.has_presence, _writer(field)) for field in fields]


def _writer(field: FieldDescriptor) -> Writer:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return partial(_map, _single(inner.fields_by_name["value"]))
    return partial(_list, _single(field)) if field.is_repeated else _single(field)


def _single(field: FieldDescriptor) -> Writer:
    """Writer of one value of a field."""
    if field.message_type is not None:
        return _message
    if field.type == field.TYPE_BYTES:
        return _base64
    text = partial(_enumeration, field.enum_type.values_by_number) if field.enum_type is not None else _text(field)
    return lambda value, add: add(text(value))


def _text(field: FieldDescriptor) -> Callable[[Any], str]:
    texts: dict[int, Callable[[Any], str]] = {
        field.CPPTYPE_FLOAT: _float32,
        field.CPPTYPE_DOUBLE: lambda value: _finite(value, repr(value)),
        field.CPPTYPE_INT32: str,
        field.CPPTYPE_UINT32: str,
        field.CPPTYPE_INT64: '"{}"'.format,
        field.CPPTYPE_UINT64: '"{}"'.format,
    }
    return texts.get(field.cpp_type, json.dumps)


def _list(write_value: Writer, values: Iterable[Any], add: Add) -> None:
    between = "["
    for value in values:
        add(between)
        write_value(value, add)
        between = ", "
    add("]" if between == ", " else "[]")


def _map(write_value: Writer, values: Mapping[str, Any], add: Add) -> None:
    between = "{"
    for key in values:
        add(f"{between}{json.dumps(key)}: ")
        write_value(values[key], add)
        between = ", "
    add("}" if between == ", " else "{}")


def _base64(content: bytes, add: Add) -> None:
    add('"')
    for first in range(0, len(content), _BYTES_AT_ONCE):
        add(binascii.b2a_base64(content[first : first + _BYTES_AT_ONCE], newline=False).decode())
    add('"')


def _enumeration(names: Mapping[int, Any], value: int) -> str:
    return f'"{names[value].name}"' if value in names else str(value)


def _float32(value: float) -> str:
    """The shortest text that is read as the same float32."""
    return _finite(value, str(np.float32(value)))


def _finite(value: float, text: str) -> str:
    return text if math.isfinite(value) else _NOT_FINITE.get(value, '"NaN"')
