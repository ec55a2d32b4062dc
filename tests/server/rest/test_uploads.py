"""Uploads that together exceed the room for bodies: which of them end, and for whom."""

import json
import socket
import time

import pytest

from tests.server.conftest import GOLDEN, metric, pixels
from tests.server.rest.conftest import Rest, document, eventually, serving_rest
from tests.server.rest.test_bodies import INFER, opening


def test_bodies_that_are_being_received_have_a_total_limit() -> None:
    with serving_rest(GOLDEN, max_heavy_bytes=300_000, rest_body_seconds=3600) as own:
        host, port = own.address.split(":")
        callers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(3)]
        for caller in callers:
            caller.sendall(opening(INFER, 1_000_000) + bytes(200_000))
        labels = {"method": "ModelInfer", "code": "RESOURCE_EXHAUSTED"}
        eventually(lambda: metric(own.served, "autoencoder_requests_total", **labels) > 0)
        # Small ones are received however many others are.
        assert own.post(INFER, document(pixels(1))).status == 200
        for caller in callers:
            caller.close()
        large_body = document(pixels(1), parameters={"x": "y" * 100_000})
        eventually(lambda: own.post(INFER, large_body).status == 200)


def stalled(rest: Rest, source: str, size: int) -> socket.socket:
    """A caller that sends that much of a larger body, and then nothing."""
    host, port = rest.address.split(":")
    caller = socket.create_connection((host, int(port)), timeout=60, source_address=(source, 0))
    caller.sendall(opening(INFER, 1_000_000) + bytes(size))
    return caller


def test_the_address_that_holds_most_makes_room_for_others() -> None:
    body = document(pixels(1), parameters={"x": "y" * 200_000})
    with (
        serving_rest(GOLDEN, max_heavy_bytes=300_000, rest_body_seconds=3600) as own,
        stalled(own, "127.0.0.2", 290_000) as caller,
    ):
        eventually(lambda: own.post(INFER, body).status == 200)
        assert caller.recv(65536).startswith(b"HTTP/1.1 429 ")


def test_uploads_that_have_halted_make_room_for_those_of_the_same_address() -> None:
    body = document(pixels(1), parameters={"x": "y" * 200_000})
    with (
        serving_rest(GOLDEN, max_heavy_bytes=300_000, rest_body_seconds=3600) as own,
        stalled(own, "127.0.0.1", 290_000) as caller,
    ):
        eventually(lambda: own.post(INFER, body).status == 200)
        assert caller.recv(65536).startswith(b"HTTP/1.1 429 ")


@pytest.mark.slow
def test_a_slow_upload_is_received_while_there_is_room() -> None:
    body = json.dumps(document(pixels(1), parameters={"x": "y" * 100_000})).encode()
    with serving_rest(GOLDEN, max_heavy_bytes=300_000) as own:
        host, port = own.address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as caller:
            caller.sendall(opening(INFER, len(body)) + body[:-2])
            # Slower than what ends for others.
            for byte in body[-2:]:
                time.sleep(0.6)
                caller.sendall(bytes([byte]))
            assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")
