"""Frames that a client may or may not send, what the specifications want then, and where a transport deviates.

RFC 9113 is HTTP/2. gRPC's rules are those of PROTOCOL-HTTP2.md, compression.md and statuscodes.md in its repository.
Outcomes are those of `Connection.outcome`; a rule or a deviation may name several.
"""

import struct
from dataclasses import dataclass

from tests.server.raw_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    header_block,
    message,
)
from tests.server.transport.conformance.http2 import (
    COMPRESSION,
    ENABLE_PUSH,
    FLOW_CONTROL,
    FRAME_SIZE,
    INITIAL_WINDOW_SIZE,
    LIST,
    MAX_FRAME_SIZE,
    PADDED,
    PRIORITISED,
    PRIORITY,
    PROTOCOL,
    PUSH_PROMISE,
    STREAM_CLOSED,
    settings_frame,
    window_update,
)

BLOCK = header_block(LIST)
EMPTY = message(b"")
END = frame(DATA, END_STREAM, 1, EMPTY)
OK = frozenset({"status 0"})
IGNORED = frozenset({"ignored"})
# RFC 9113, section 8.1.1; gRPC calls PROTOCOL_ERROR INTERNAL.
MALFORMED = frozenset({f"stream error {PROTOCOL}", f"connection error {PROTOCOL}", "status 13"})


def connection_error(code: int) -> frozenset[str]:
    """RFC 9113, section 5.4.1: a GOAWAY should, and a closed connection must follow."""
    return frozenset({f"connection error {code}", "closed"})


def stream_error(code: int) -> frozenset[str]:
    """RFC 9113, section 5.4.2, which allows a connection error too."""
    return frozenset({f"stream error {code}", *connection_error(code)})


@dataclass(frozen=True)
class Case:
    """Frames on a fresh connection; a deviation is the outcome that a transport has instead."""

    rule: frozenset[str]
    frames: tuple[bytes, ...]
    native: str = ""
    grpcio: str = ""

    def expected(self, transport: str) -> frozenset[str]:
        """Outcomes that the test takes."""
        deviation = {"native": self.native, "grpcio": self.grpcio}[transport]
        return frozenset(deviation.split(" or ")) if deviation else self.rule


def headers(more: dict[str, str] | None = None, *, path: str = LIST, stream: int = 1) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, header_block(path, more))


def call(more: dict[str, str] | None = None, *, path: str = LIST, body: bytes = EMPTY) -> tuple[bytes, bytes]:
    return headers(more, path=path), frame(DATA, END_STREAM, 1, body)


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed: RFC 7541, section 6.2.2."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def without(name: str, value: str) -> bytes:
    field = literal(name.encode(), value.encode())
    assert field in BLOCK
    return frame(HEADERS, END_HEADERS, 1, BLOCK.replace(field, b""))


# RFC 9113: of a connection, each on its own. h2, in pygrpc-native, calls wrong sizes and states PROTOCOL_ERROR; core
# takes frames on streams that do not exist for late ones, and ignores them.
H2, CORE = f"connection error {PROTOCOL}", "ignored"
FRAMES = {
    "6.7 ping of seven bytes": Case(connection_error(FRAME_SIZE), (frame(PING, 0, 0, bytes(7)),), native=H2),
    "6.7 ping on a stream": Case(connection_error(PROTOCOL), (frame(PING, 0, 1, bytes(8)),), grpcio=CORE),
    "6.7 answer to no ping": Case(OK, (frame(PING, ACK, 0, bytes(8)), *call())),
    "5.5 unknown type": Case(OK, (frame(119, 255, 3, b"?"), frame(119, 255, 0, b"?"), *call())),
    "5.5 unknown setting": Case(OK, (settings_frame({153: 7}), *call())),
    "4.1 reserved bit": Case(OK, (frame(HEADERS, END_HEADERS, 2**31 + 1, BLOCK), END)),
    "4.1 unused flags": Case(OK, (frame(HEADERS, END_HEADERS | 0xD2, 1, BLOCK), END)),
    "4.2 frame too large": Case(
        stream_error(FRAME_SIZE), (headers(), frame(DATA, 0, 1, bytes(16_385))), grpcio="status 14"
    ),
    "6.3 priority": Case(OK, (frame(PRIORITY, 0, 5, bytes(5)), *call())),
    # RFC 7540 had it an error.
    "6.3 priority of itself": Case(OK, (frame(PRIORITY, 0, 5, struct.pack(">IB", 5, 1)), *call()), native=H2),
    "6.3 priority of four bytes": Case(
        stream_error(FRAME_SIZE), (frame(PRIORITY, 0, 1, bytes(4)),), native=H2, grpcio=CORE
    ),
    "6.5 settings of five bytes": Case(connection_error(FRAME_SIZE), (frame(SETTINGS, 0, 0, bytes(5)),), native=H2),
    "6.5 acknowledgement with content": Case(
        connection_error(FRAME_SIZE), (frame(SETTINGS, ACK, 0, bytes(6)),), native=H2
    ),
    "6.5 settings on a stream": Case(connection_error(PROTOCOL), (frame(SETTINGS, 0, 1),)),
    "6.5.2 push 2": Case(connection_error(PROTOCOL), (settings_frame({ENABLE_PUSH: 2}),)),
    "6.5.2 window of 2^31": Case(
        connection_error(FLOW_CONTROL), (settings_frame({INITIAL_WINDOW_SIZE: 2**31}),), native=H2
    ),
    "6.5.2 frames too small": Case(connection_error(PROTOCOL), (settings_frame({MAX_FRAME_SIZE: 16_383}),)),
    "6.5.2 frames too large": Case(connection_error(PROTOCOL), (settings_frame({MAX_FRAME_SIZE: 2**24}),)),
    "6.1 data on stream 0": Case(connection_error(PROTOCOL), (frame(DATA, 0, 0, b"?"),), grpcio=CORE),
    "6.2 headers on stream 0": Case(connection_error(PROTOCOL), (frame(HEADERS, END_HEADERS, 0, BLOCK),), grpcio=CORE),
    "5.1.1 even stream": Case(connection_error(PROTOCOL), (headers(stream=2),), grpcio=CORE),
    "5.1.1 falling stream": Case(
        connection_error(PROTOCOL), (headers(stream=5), frame(DATA, END_STREAM, 5, EMPTY), *call()), grpcio=CORE
    ),
    "5.1 data on an idle stream": Case(connection_error(PROTOCOL), (frame(DATA, 0, 1, b"?"),), grpcio=CORE),
    "5.1 window of an idle stream": Case(connection_error(PROTOCOL), (window_update(1, 5),), grpcio=CORE),
    "5.1 data after the end": Case(
        stream_error(STREAM_CLOSED) | OK, (*call(), frame(DATA, 0, 1, b"?")), native=f"{H2} or status 0"
    ),
    "5.1 headers after the end": Case(
        stream_error(STREAM_CLOSED) | OK, (*call(), headers()), native=f"stream error {PROTOCOL} or status 0"
    ),
    "6.6 push promise": Case(
        connection_error(PROTOCOL), (frame(PUSH_PROMISE, END_HEADERS, 1, bytes([0, 0, 0, 2])),), grpcio=CORE
    ),
    "6.10 continuation of nothing": Case(connection_error(PROTOCOL), (frame(CONTINUATION, END_HEADERS, 1),)),
    "6.10 frame between headers": Case(
        connection_error(PROTOCOL), (frame(HEADERS, 0, 1, BLOCK), frame(PING, 0, 0, bytes(8)))
    ),
    "6.10 continuation elsewhere": Case(
        connection_error(PROTOCOL), (frame(HEADERS, 0, 1, BLOCK), frame(CONTINUATION, END_HEADERS, 3))
    ),
    "6.10 headers in pieces": Case(
        OK,
        (
            frame(HEADERS, 0, 1),
            *(frame(CONTINUATION, 0, 1, BLOCK[index : index + 40]) for index in range(0, len(BLOCK), 40)),
            frame(CONTINUATION, END_HEADERS, 1),
            END,
        ),
    ),
    "6.4 reset of an idle stream": Case(connection_error(PROTOCOL), (frame(RST_STREAM, 0, 1, bytes(4)),), grpcio=CORE),
    "6.4 reset of stream 0": Case(connection_error(PROTOCOL), (frame(RST_STREAM, 0, 0, bytes(4)),), grpcio=CORE),
    "6.4 reset of three bytes": Case(
        connection_error(FRAME_SIZE), (headers(), frame(RST_STREAM, 0, 1, bytes(3))), native=H2
    ),
    "6.8 goaway on a stream": Case(connection_error(PROTOCOL), (frame(GOAWAY, 0, 1, bytes(8)),), grpcio=CORE),
    "6.9 window of three bytes": Case(connection_error(FRAME_SIZE), (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), native=H2),
    "6.9 window by 0": Case(connection_error(PROTOCOL), (window_update(0, 0),)),
    "6.9 window of a stream by 0": Case(stream_error(PROTOCOL), (headers(), window_update(1, 0)), grpcio="status 14"),
    "6.9.1 window beyond 2^31": Case(connection_error(FLOW_CONTROL), (window_update(0, 2**31 - 1),), grpcio=CORE),
    "6.9.1 window of a stream beyond 2^31": Case(
        stream_error(FLOW_CONTROL), (headers(), window_update(1, 2**31 - 1)), grpcio=CORE
    ),
}
# RFC 7541 and sections 6.1, 6.2 and 8 of RFC 9113: headers and padding. Core knows no padding.
HEADER_BLOCKS = {
    "6.1 padded data": Case(
        OK, (headers(), frame(DATA, END_STREAM | PADDED, 1, b"\5" + EMPTY + bytes(5))), grpcio="stream error 1"
    ),
    "6.1 more padding than data": Case(
        stream_error(PROTOCOL), (headers(), frame(DATA, END_STREAM | PADDED, 1, b"\xff" + EMPTY))
    ),
    "6.2 padded headers with a priority": Case(
        OK,
        (frame(HEADERS, END_HEADERS | PADDED | PRIORITISED, 1, b"\3" + bytes(4) + b"\t" + BLOCK + bytes(3)), END),
        grpcio="status 13",
    ),
    "6.2 more padding than headers": Case(
        connection_error(PROTOCOL), (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK),)
    ),
    "5.3 priority of itself in headers": Case(
        OK,
        (frame(HEADERS, END_HEADERS | PRIORITISED, 1, struct.pack(">IB", 1, 9) + BLOCK), END),
        native="stream error 1",
    ),
    "4.3 unknown index": Case(
        connection_error(COMPRESSION), (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\x0f"),), native=H2
    ),
    "4.3 index 0": Case(connection_error(COMPRESSION), (frame(HEADERS, END_HEADERS, 1, BLOCK + b"\x80"),), native=H2),
    "4.3 table larger than allowed": Case(
        connection_error(COMPRESSION), (frame(HEADERS, END_HEADERS, 1, b"\x3f\xe2\x1f" + BLOCK),), native=H2
    ),
    "8.2.1 upper case": Case(MALFORMED, call({"X-Up": "a"})),
    "8.2.1 nul in a value": Case(
        MALFORMED, (frame(HEADERS, END_HEADERS, 1, BLOCK + literal(b"x-a", b"\0")), END), grpcio="status 0"
    ),
    "8.2.2 connection header": Case(MALFORMED, call({"connection": "close"}), grpcio="status 0"),
    "8.2.2 te other than trailers": Case(MALFORMED, call({"te": "gzip"})),
    "8.3 no path": Case(MALFORMED, (without(":path", LIST), END), grpcio="stream error 2"),
    "8.3 pseudo-header after others": Case(
        MALFORMED, (frame(HEADERS, END_HEADERS, 1, BLOCK + literal(b":method", b"POST")), END), grpcio="status 0"
    ),
    "8.3 unknown pseudo-header": Case(MALFORMED, (frame(HEADERS, END_HEADERS, 1, literal(b":foo", b"x") + BLOCK), END)),
    "8.1.1 other length than said": Case(MALFORMED, call({"content-length": "3"}), grpcio="status 0"),
    "8.1 trailers of the client": Case(
        OK, (headers(), frame(DATA, 0, 1, EMPTY), frame(HEADERS, END_HEADERS | END_STREAM, 1, literal(b"x-a", b"b")))
    ),
    "8.1 trailers that do not end": Case(
        MALFORMED,
        (headers(), frame(DATA, 0, 1, EMPTY), frame(HEADERS, END_HEADERS, 1, literal(b"x-a", b"b"))),
        grpcio="status 14",
    ),
}
