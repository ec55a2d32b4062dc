"""An HTTP/2 client that sends any frames, and decodes headers, messages, resets and the end of the connection."""

import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from hpack import Decoder

from tests.server.conftest import Served
from tests.server.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawConnection,
    frame,
    header_block,
    message,
    settings,
)

PRIORITY, PUSH_PROMISE = 2, 5
PADDED, PRIORITISED = 8, 32
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 4, 5
NO_ERROR, PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, CANCEL, COMPRESSION = 0, 1, 3, 5, 6, 8, 9
LIST, ENCODE, SAMPLE = (f"/autoencoder.v1.AutoencoderService/{method}" for method in ("ListModels", "Encode", "Sample"))
HEALTH = "/grpc.health.v1.Health/Check"
# RFC 9113, section 6.9.2.
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384
_PROBE = 2**30 + 1


def settings_frame(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


@dataclass
class Answer:
    """What came of one call."""

    headers: dict[str, str] = field(default_factory=dict)
    """With the trailers, which a call without an answer has alone."""
    blocks: int = 0
    """Blocks of headers: two, or one if the call has only trailers."""
    data: bytes = b""
    largest: int = 0
    """Bytes of the largest DATA frame."""
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> str:
        """Status of gRPC, or of HTTP where there is none."""
        return self.headers.get("grpc-status") or f"HTTP {self.headers.get(':status')}"

    @property
    def message(self) -> bytes:
        """The only message of the answer, without its prefix."""
        assert self.data[:1] == b"\0"
        assert struct.unpack(">I", self.data[1:5])[0] == len(self.data) - 5
        return self.data[5:]


class Connection(RawConnection):
    """A connection whose streams and windows are those that the test sends."""

    def __init__(self, served: Served, announced: Mapping[int, int] | None = None, *, table: int = 4096) -> None:
        super().__init__(served.address)
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = table
        self._answers: dict[int, Answer] = {}
        self.settings: dict[int, int] = {}
        self.kinds: list[int] = []
        """Of the frames in the order in which they came."""
        self.goaway: int | None = None
        self.pongs: list[bytes] = []
        self.acknowledged = 0
        self.granted: dict[int, int] = {}
        """Sum of the server's WINDOW_UPDATE frames, by stream; 0 is the connection."""
        if announced:
            self.send(settings_frame(announced))

    def send(self, *frames: bytes) -> None:
        """Send frames; to a connection that has ended, too: what it has sent can still be read."""
        with suppress(OSError):
            self.socket.sendall(b"".join(frames))

    def request(
        self, stream: int, path: str = LIST, body: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> None:
        """A whole call; the body is a message with its prefix."""
        body = message(b"") if body is None else body
        self.send(frame(HEADERS, END_HEADERS, stream, header_block(path, more)))
        for start in range(0, len(body), DEFAULT_FRAME):
            last = END_STREAM if start + DEFAULT_FRAME >= len(body) else 0
            self.send(frame(DATA, last, stream, body[start : start + DEFAULT_FRAME]))

    def call(
        self, stream: int, path: str = LIST, body: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> Answer:
        """As `request`, and its answer."""
        self.request(stream, path, body, more)
        return self.answer(stream)

    def answer(self, stream: int, seconds: float = 20) -> Answer:
        """The answer once it is whole, reset, or the connection has ended."""
        self.waited(lambda: self.of(stream).ended, seconds)
        return self.of(stream)

    def of(self, stream: int) -> Answer:
        """What has come of a stream so far."""
        return self._answers.setdefault(stream, Answer())

    def ping(self, content: bytes) -> bool:
        """Whether a PING is answered with its content."""
        self.send(frame(PING, 0, 0, content))
        return self.waited(lambda: content in self.pongs)

    def outcome(self, expected: str) -> str:
        """How the server ends the first stream or the connection; "ignored" if it answers another call instead.

        Whatever is expected to be ignored is followed by another call, whose answer tells that it has been read.
        """
        first, other = self.of(1), self.of(_PROBE)
        if expected == "ignored":
            self.request(_PROBE)
            self.waited(lambda: other.ended)
        elif "status" in expected or "stream" in expected:
            self.waited(lambda: first.ended or self.goaway is not None)
        else:
            self.waited(lambda: self.goaway is not None)
        if self.goaway is not None:
            return f"connection error {self.goaway}"
        if first.reset is not None and "grpc-status" not in first.headers:
            return f"stream error {first.reset}"
        if first.ended and "status" in expected:
            return f"status {first.status}"
        if other.ended:
            return "ignored"
        return "closed" if self.closed(1) else "neither answered nor closed"

    def waited(self, done: Callable[[], bool], seconds: float = 20) -> bool:
        """Read until something has come; False if the connection ends or the time is up before."""
        if done():
            return True
        for kind, flags, stream, payload in self.frames(seconds):
            self._take(kind, flags, stream, payload)
            if done():
                return True
        return False

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        answer = self.of(stream)
        self.kinds.append(kind)
        if kind == SETTINGS:
            self._take_settings(flags, payload)
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">I", payload[4:8])[0]
        elif kind == WINDOW_UPDATE:
            self.granted[stream] = self.granted.get(stream, 0) + struct.unpack(">I", payload)[0]
        elif kind == RST_STREAM:
            answer.reset, answer.ended = struct.unpack(">I", payload)[0], True
        elif kind == HEADERS:
            # Answers here are far from a frame in size, so that none is continued.
            assert flags & END_HEADERS
            answer.headers |= dict(self._decoder.decode(payload))
            answer.blocks += 1
            answer.ended = bool(flags & END_STREAM)
        elif kind == DATA:
            answer.data += payload
            answer.largest = max(answer.largest, len(payload))
            answer.ended = bool(flags & END_STREAM)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            self.acknowledged += 1
        else:
            self.settings |= settings(payload)
            self.send(frame(SETTINGS, ACK, 0))
