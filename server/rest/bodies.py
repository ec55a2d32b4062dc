"""Request bodies: received up to limits of size and total memory; the sizes and the JSON in them."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message
from pydantic_core import from_json
from starlette.requests import Request

from server.errors import InvalidArgumentError, OverloadedError, TooLargeError
from server.rest.bridge import Body

JSON_BYTES = "inference-header-content-length"
# Of 18 digits: larger than any body. Python does not read a number of thousands of digits.
_LONGEST_SIZE = 18
# So many bytes of JSON are parsed in the time that one byte of protobuf fields takes.
_JSON_RATIO = 4
# A body up to this size is received however many others are.
_SMALL_BYTES = 64 * 1024
_RETRY_SECONDS = 1.0


class BodyReader:
    """Receives the bodies of all connections, together up to `max_bytes` but for small ones."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0

    async def receive(self, request: Request, read: Callable[[bytes], Message], limit_bytes: int) -> Body:
        """Receive a body, but no more than the limit on message size; `read` makes its message.

        Raises:
            InvalidArgumentError: it is compressed.
            TooLargeError: more than `limit_bytes`.
            OverloadedError: too many bytes of bodies are being received.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise InvalidArgumentError("content-encoding", f"expected identity, got {encoding[:60]!r}")
        announced = int(request.headers.get("content-length", 0))
        if announced > limit_bytes:
            raise TooLargeError(announced, limit_bytes)
        body = await self._receive(request, limit_bytes)
        return Body(partial(read, body), len(body), _json_size(request, body) // _JSON_RATIO)

    async def _receive(self, request: Request, limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = held = 0
        try:
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > limit_bytes:
                    raise TooLargeError(size, limit_bytes)
                if size > _SMALL_BYTES:
                    held += len(part)
                    self._held_bytes += len(part)
                    self._check()
            return b"".join(parts)
        finally:
            self._held_bytes -= held

    def _check(self) -> None:
        if self._held_bytes > self._max_bytes:
            raise OverloadedError(
                f"{self._held_bytes} bytes of bodies are being received; the limit is {self._max_bytes}: "
                "try again later",
                _RETRY_SECONDS,
            )


def json_bytes(request: Request, body: bytes) -> int | None:
    """Return the size of the JSON before binary data; None without these.

    Raises:
        InvalidArgumentError: the header is no size within the body.
    """
    given = request.headers.get(JSON_BYTES)
    if given is None:
        return None
    if not (_is_size(given) and int(given) <= len(body)):
        raise InvalidArgumentError(
            JSON_BYTES, f"expected the size of the JSON in a body of {len(body)} bytes, got {given[:60]!r}"
        )
    return int(given)


def json_object(body: bytes) -> dict[str, object]:
    """Parse the JSON object of a short body; an empty body is an empty object.

    Raises:
        InvalidArgumentError: anything else.
    """
    try:
        # Unlike Python's own parser, it refuses texts that are no UTF-8, and deep nesting.
        document: Any = from_json(body or b"{}")
    except ValueError as error:
        raise InvalidArgumentError("request", f"expected a JSON object: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgumentError("request", "expected a JSON object, got another JSON value")
    return cast("dict[str, object]", document)


def _json_size(request: Request, body: bytes) -> int:
    given = request.headers.get(JSON_BYTES, "")
    return min(int(given), len(body)) if _is_size(given) else len(body)


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_SIZE
