"""Request bodies: received up to limits of size and total memory; the sizes and the JSON in them.

What has arrived of bodies counts, not what is announced. When all together are too large, uploads end for others (slow
upload protection): those that have come to a halt first, then those of the address that holds most.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from google.protobuf.message import Message
from pydantic_core import from_json
from starlette.requests import Request

from server.calls.interruption import interrupt, reason, running_task
from server.errors import InvalidArgumentError, OverloadedError, TooLargeError
from server.rest.bridge import Body

_LOGGER = logging.getLogger(__name__)
JSON_BYTES = "inference-header-content-length"
# Of 18 digits: larger than any body. Python does not read a number of thousands of digits.
_LONGEST_SIZE = 18
# So many bytes of JSON are parsed in the time that one byte of protobuf fields takes.
_JSON_RATIO = 4
# A body up to this size is received however many others are.
_SMALL_BYTES = 64 * 1024
# An upload that has not come on by that much in this time has come to a halt: 0.5 Mbit/s.
_STEP_BYTES = 64 * 1024
_STEP_SECONDS = 1.0
_RETRY_SECONDS = 1.0


class _Upload:
    """A body that is being received."""

    def __init__(self, address: str) -> None:
        self.task = running_task()
        self.address = address
        self.held_bytes = 0
        self.step_bytes = 0
        self.stepped = time.monotonic()

    def add(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self.step_bytes += size_bytes
        if self.step_bytes >= _STEP_BYTES:
            self.step_bytes = 0
            self.stepped = time.monotonic()


class BodyReader:
    """Receives the bodies of all connections, together up to `max_bytes` but for small ones."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held_bytes = 0
        # Those above the size of small ones, and what each address holds of them.
        self._uploads: set[_Upload] = set()
        self._held_of: Counter[str] = Counter()

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
        size = 0
        upload = _Upload("" if request.client is None else request.client.host)
        try:
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > limit_bytes:
                    raise TooLargeError(size, limit_bytes)
                if size > _SMALL_BYTES:
                    self._hold(upload, len(part))
            return b"".join(parts)
        except asyncio.CancelledError as cancelled:
            raise reason(upload.task, cancelled) from None
        finally:
            # The traceback of an error would keep them until the garbage collector comes.
            parts.clear()
            self._release(upload)

    def _hold(self, upload: _Upload, size_bytes: int) -> None:
        """Count a part that has arrived; end uploads when there is no room for it."""
        upload.add(size_bytes)
        self._uploads.add(upload)
        self._held_of[upload.address] += size_bytes
        self._held_bytes += size_bytes
        while self._held_bytes > self._max_bytes:
            self._make_room(upload)

    def _make_room(self, upload: _Upload) -> None:
        now = time.monotonic()

        def rank(each: _Upload) -> tuple[bool, int, bool, float]:
            idle_seconds = now - each.stepped
            halted = idle_seconds > _STEP_SECONDS
            # Among uploads of one address that all come on, ending another one would help none.
            return halted, self._held_of[each.address], not halted and each is upload, idle_seconds

        ended = max(self._uploads, key=rank)
        error = OverloadedError(
            f"{self._held_bytes} bytes of bodies are being received; the limit is {self._max_bytes}: "
            "send it faster, or try again later",
            _RETRY_SECONDS,
        )
        if ended is upload:
            raise error
        _LOGGER.warning("ended an upload of %s, of which %d bytes had arrived", ended.address, ended.held_bytes)
        interrupt(ended.task, error)
        self._release(ended)

    def _release(self, upload: _Upload) -> None:
        self._uploads.discard(upload)
        self._held_bytes -= upload.held_bytes
        self._held_of[upload.address] -= upload.held_bytes
        if not self._held_of[upload.address]:
            del self._held_of[upload.address]
        upload.held_bytes = 0


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
