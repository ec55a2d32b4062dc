"""Reads requests in protobuf JSON (ProtoJSON): bytes are base64. https://protobuf.dev/programming-guides/json/.

Long texts, the base64 of images and tensors, are decoded in pieces: one call into C would block every other thread.
What is left of a request is short and has few values, because a parser in Python takes microseconds for each.
"""

import binascii
import secrets
from collections.abc import Mapping
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from server.errors import InvalidArgumentError
from server.rest.bodies import json_object

# Shorter texts are parsed with their document.
_LONG_BYTES = 512
_MAX_DOCUMENT_BYTES = 1024 * 1024
# As many as a message over gRPC has fields, and one for each row: of `noise_levels` or `files`.
_MAX_VALUES = 4096
# Read in a fifth of a millisecond; whole groups of four characters, which are three bytes.
_CHARACTERS_AT_ONCE = 128 * 1024
_KEY_BYTES = 18
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class _LongTexts:
    """Base64 texts of a document, each by the short key that stands for it there."""

    def __init__(self) -> None:
        self._nonce = secrets.token_bytes(_KEY_BYTES - 6)
        self.by_key: dict[bytes, memoryview] = {}

    def add(self, text: memoryview) -> bytes:
        """Keep a text; returns its key."""
        key = self._nonce + len(self.by_key).to_bytes(_KEY_BYTES - len(self._nonce))
        self.by_key[key] = text
        return key


def read(kind: type[Message], max_rows: int, body: bytes) -> Message:
    """Read a request, of at most `max_rows` rows; an empty body is an empty message.

    Raises:
        InvalidArgumentError: not JSON, not this message, not base64, or too long without its long texts.
    """
    most = _MAX_VALUES + max_rows
    short, texts = _cut(body, most)
    document = json_object(short)
    _check_values(document, most)
    message = kind()
    _check_base64(document, cast("Descriptor", message.DESCRIPTOR))
    try:
        ParseDict(document, message)
    except ParseError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidArgumentError("request", f"expected {kind.__name__} in protobuf JSON: {reason}") from error
    _put_back(message, texts.by_key)
    if texts.by_key:
        expected = f"expected texts of more than {_LONG_BYTES} bytes for fields of bytes only, and each of them once"
        raise InvalidArgumentError("request", expected)
    return message


def _check_base64(document: Mapping[str, object], kind: Descriptor, path: str = "") -> None:
    """Refuse fields of bytes with other characters than base64, which protobuf's parser skips."""
    fields: dict[str, Any] = {**kind.fields_by_camelcase_name, **kind.fields_by_name}
    for name, value in document.items():
        if (field := fields.get(name)) is None:
            continue
        is_list = isinstance(value, list)
        for index, each in enumerate(cast("list[object]", value) if is_list else [value]):
            place = f"{path}{field.name}[{index}]" if is_list else f"{path}{field.name}"
            if field.message_type is not None and isinstance(each, dict):
                _check_base64(cast("dict[str, object]", each), field.message_type, f"{place}.")
            elif field.type == field.TYPE_BYTES and isinstance(each, str):
                _decode(place, memoryview(each.encode()))


def _put_back(message: Message, texts: dict[bytes, memoryview], path: str = "") -> None:
    """Set fields of bytes that hold the key of a text to what it encodes, and remove it from `texts`."""
    for field, value in cast("list[tuple[Any, Any]]", message.ListFields()):
        name = f"{path}{field.name}"
        if field.message_type is not None:
            for index, inner in enumerate(value if field.is_repeated else [value]):
                _put_back(inner, texts, f"{name}[{index}]." if field.is_repeated else f"{name}.")
        elif field.type != field.TYPE_BYTES:
            continue
        elif field.is_repeated:
            for index, content in enumerate(value):
                if content in texts:
                    value[index] = _decode(f"{name}[{index}]", texts.pop(content))
        elif value in texts:
            setattr(message, field.name, _decode(name, texts.pop(value)))


def _cut(document: bytes, most: int) -> tuple[bytes, _LongTexts]:
    """Cut long texts out of a document of at most so many values.

    Raises:
        InvalidArgumentError: more, or what is left is too long to be parsed at once.
    """
    texts, parts = _LongTexts(), list[bytes]()
    done = cut = count = 0
    start = document.find(b'"')
    while start >= 0 and (end := _end_of_text(document, start + 1)) > 0:
        count += 1
        # Each value may have a name.
        if count > 2 * most:
            raise _too_many(most)
        if end - start > _LONG_BYTES:
            key = binascii.b2a_base64(texts.add(memoryview(document)[start + 1 : end]), newline=False)
            parts += (document[done : start + 1], key)
            cut += end - start - len(key)
            done = end
        start = document.find(b'"', end + 1)
    if len(document) - cut > _MAX_DOCUMENT_BYTES:
        expected = f"expected at most {_MAX_DOCUMENT_BYTES} bytes of JSON besides texts of more than {_LONG_BYTES}"
        raise InvalidArgumentError("request", f"{expected}, got {len(document) - cut}")
    return b"".join([*parts, document[done:]]), texts


def _end_of_text(document: bytes, start: int) -> int:
    """Where the quotes are that end a text; -1 without any.

    Raises:
        InvalidArgumentError: a long text has quotes in it, each of which would cost a search.
    """
    end = document.find(b'"', start)
    while end > 0 and _backslashes(document, start, end) % 2:
        if end - start > _LONG_BYTES:
            raise InvalidArgumentError(
                "request", f"expected base64 in texts of more than {_LONG_BYTES} bytes, got quotes"
            )
        end = document.find(b'"', end + 1)
    return end


def _backslashes(document: bytes, start: int, end: int) -> int:
    """How many there are before `end`."""
    looked_at = 8
    while True:
        before = document[max(start, end - looked_at) : end]
        found = len(before) - len(before.rstrip(b"\\"))
        if found < looked_at:
            return found
        looked_at *= 4


def _check_values(document: object, most: int) -> None:
    """Refuse a document with more values than any request has."""
    left = [document]
    count = 0
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += cast("dict[str, object]", value).values()
        elif isinstance(value, list):
            left += cast("list[object]", value)
        count += 1
        if count + len(left) > most:
            raise _too_many(most)


def _too_many(most: int) -> InvalidArgumentError:
    return InvalidArgumentError("request", f"expected at most {most} values, got more")


def _decode(field: str, text: memoryview) -> bytes:
    """Bytes of base64, padded or not, of either alphabet."""
    source = bytes(text)
    if b"\\" in source:
        # Some writers of JSON escape a slash.
        source = source.replace(b"\\/", b"/")
    parts: list[bytes] = []
    try:
        for first in range(0, len(source), _CHARACTERS_AT_ONCE):
            piece = source[first : first + _CHARACTERS_AT_ONCE].translate(_URL_SAFE)
            if first + _CHARACTERS_AT_ONCE < len(source) and piece.endswith(b"="):
                raise InvalidArgumentError(field, "expected base64, got characters after its padding")
            parts.append(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4), strict_mode=True))
    except binascii.Error as error:
        raise InvalidArgumentError(field, f"expected base64: {error}") from error
    return b"".join(parts)
