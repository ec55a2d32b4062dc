"""Compressed messages that unpack to a thousand times their size, to a server that the network can reach."""

import gzip
import logging
import os
import re
import struct
from pathlib import Path

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from examples.local_server import running
from tests.reliability.resources import MIB
from tests.server.conftest import GOLDEN
from tests.server.raw_http2 import DATA, END_HEADERS, END_STREAM, HEADERS, RawConnection, frame, header_block

_LOGGER = logging.getLogger(__name__)
# It fits the window that a connection begins with: 64 KiB. By the default limits it may have 64 MiB.
UNPACKED_BYTES = 56 * MIB
CALLS = 4 * int(os.environ.get("TEST_SCALE", "1"))
FRAME_BYTES = 16_384
PATH = "/autoencoder.v1.AutoencoderService/Encode"


def test_a_compressed_message_is_refused_unread(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(UNPACKED_BYTES), 9)
    body = b"\1" + struct.pack(">I", len(packed)) + packed
    pieces = [body[start : start + FRAME_BYTES] for start in range(0, len(body), FRAME_BYTES)]
    block = header_block(PATH, {"grpc-encoding": "gzip"})
    call = frame(HEADERS, END_HEADERS, 1, block) + b"".join(
        frame(DATA, END_STREAM * (piece is pieces[-1]), 1, piece) for piece in pieces
    )
    with running(GOLDEN, tmp_path / "server.log", "--host", "::", "--lame-duck-seconds", "0") as server:
        address = server.address.replace("::", "::1")
        before = peak_bytes(server.process.pid)
        statuses: list[bytes] = []
        for _ in range(CALLS):
            with RawConnection(address) as connection:
                connection.socket.sendall(call)
                frames = (payload for kind, flags, _, payload in connection.frames(20) if kind == HEADERS and flags & 1)
                statuses.append(next(frames, b""))
        held = peak_bytes(server.process.pid) - before
        _LOGGER.info("%d messages of %d KiB: +%d MiB at the peak", CALLS, len(packed) // 1024, held // MIB)
        assert held < UNPACKED_BYTES / 2
        # UNIMPLEMENTED
        assert all(b"grpc-status\x0212" in status for status in statuses)
        with grpc.insecure_channel(address) as channel:
            stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
            assert stub.ListModels(pb.ListModelsRequest(), timeout=20).models


def peak_bytes(process_id: int) -> int:
    """The most memory that a process has held."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024
