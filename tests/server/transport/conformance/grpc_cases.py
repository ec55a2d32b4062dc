"""gRPC over HTTP/2: calls that a client may or may not make, what PROTOCOL-HTTP2.md wants then, and deviations.

Statuses are those of statuscodes.md and compression.md; where none names one, INTERNAL, as gRPC's own servers answer.
"""

import gzip
import struct

from tests.server.raw_http2 import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from tests.server.transport.conformance.cases import BLOCK, EMPTY, END, OK, Case, call, headers, literal, without
from tests.server.transport.conformance.http2 import LIST

INTERNAL, UNIMPLEMENTED = frozenset({"status 13"}), frozenset({"status 12"})
# "SHOULD respond with HTTP status of 415".
UNSUPPORTED = frozenset({"status HTTP 415"})
REFUSED = frozenset({"stream error 1", "stream error 2", "status 13", "status HTTP 405"})
GZIP = gzip.compress(b"")


def flagged(flag: int, content: bytes = b"") -> bytes:
    """A message with a flag."""
    return bytes([flag]) + struct.pack(">I", len(content)) + content


REQUESTS = {
    "path that nothing serves": Case(UNIMPLEMENTED, call(path="/x.Y/Z")),
    "method that the service lacks": Case(UNIMPLEMENTED, call(path=LIST[:-1])),
    "GET": Case(REFUSED, call({":method": "GET"}), native="status 0"),
    "no te": Case(REFUSED | OK, (without("te", "trailers"), END)),
    "application/grpc+proto": Case(OK, call({"content-type": "application/grpc+proto"})),
    "text/plain": Case(UNSUPPORTED, call({"content-type": "text/plain"}), native="status 0", grpcio="status 0"),
    "no content-type": Case(
        UNSUPPORTED, (without("content-type", "application/grpc"), END), native="status 0", grpcio="status 0"
    ),
    "text metadata beyond ASCII": Case(
        OK, (frame(HEADERS, END_HEADERS, 1, BLOCK + literal(b"x-a", "ä".encode())), END)
    ),
    "a header twice": Case(
        OK, (frame(HEADERS, END_HEADERS, 1, BLOCK + literal(b"x-a", b"1") + literal(b"x-a", b"2")), END)
    ),
    "binary metadata, padded": Case(OK, call({"x-a-bin": "YQ=="})),
    "binary metadata, not padded": Case(OK, call({"x-a-bin": "YQ"})),
    "binary metadata, two in one": Case(OK, call({"x-a-bin": "YQ,Yg"}), grpcio="status 13"),
    "binary metadata, not base64": Case(INTERNAL, call({"x-a-bin": "*"}), native="status 0"),
}
MESSAGES = {
    "in pieces": Case(
        OK, (headers(), *(frame(DATA, 0, 1, EMPTY[i : i + 1]) for i in range(5)), frame(DATA, END_STREAM, 1))
    ),
    "between empty frames": Case(
        OK, (headers(), frame(DATA, 0, 1), frame(DATA, 0, 1, EMPTY), frame(DATA, 0, 1), frame(DATA, END_STREAM, 1))
    ),
    "none": Case(
        UNIMPLEMENTED, (frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK),), native="status 13", grpcio="status 3"
    ),
    "two": Case(UNIMPLEMENTED, call(body=2 * EMPTY), native="status 0", grpcio="status 0"),
    "unknown flag": Case(INTERNAL, call(body=flagged(2)), grpcio="status 0"),
    "compressed without an encoding": Case(INTERNAL, call(body=flagged(1)), grpcio="status 0"),
    "identity": Case(OK, call({"grpc-encoding": "identity"})),
    "identity, said to be compressed": Case(
        INTERNAL, call({"grpc-encoding": "identity"}, body=flagged(1)), grpcio="status 0"
    ),
    # Refused on purpose: SECURITY.md.
    "gzip": Case(UNIMPLEMENTED, call({"grpc-encoding": "gzip"}, body=flagged(1, GZIP)), native="status 0"),
    "deflate": Case(UNIMPLEMENTED, call({"grpc-encoding": "deflate"}, body=flagged(1, b"?"))),
    "unknown encoding": Case(UNIMPLEMENTED, call({"grpc-encoding": "foo"}, body=flagged(1, b"?")), grpcio="status 13"),
}
_DEADLINE = frozenset({"status 4"})
TIMEOUTS = {
    **{
        text: Case(OK, call({"grpc-timeout": text})) for text in ("1H", "1M", "60S", "60000m", "60000000u", "99999999H")
    },
    # A thousandth of a millisecond, which grpc core rounds up.
    "1n": Case(_DEADLINE | OK, call({"grpc-timeout": "1n"})),
    "0S": Case(_DEADLINE | INTERNAL, call({"grpc-timeout": "0S"}), native="status 0 or status 4"),
    **{
        text: Case(INTERNAL, call({"grpc-timeout": text}), native="status 0")
        for text in ("", "1", "S", "1x", "-1S", "1.5S")
    },
    **{
        text: Case(INTERNAL, call({"grpc-timeout": text}), native="status 0", grpcio="status 0")
        for text in ("123456789S", "1 S")
    },
}
