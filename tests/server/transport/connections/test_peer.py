"""What a connection says of its client before it is served."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.transport.connections.listeners import listen_at
from server.transport.connections.peer import begins_storm, caller_of, has_gone
from tests.server.models.test_manager import eventually
from tests.server.raw_http2 import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, header_block


@contextmanager
def connected(address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    (listener,) = listen_at(address)
    listener.settimeout(20)
    with listener, socket.socket(listener.family) as client:
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            yield client, server


@pytest.fixture(params=["127.0.0.1:0", "unix:h.sock"])
def ends(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, socket.socket]]:
    monkeypatch.chdir(tmp_path)
    with connected(request.param) as found:
        yield found


@pytest.mark.parametrize(
    ("host", "caller"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_an_address_or_its_network_is_the_caller(host: str, caller: str) -> None:
    with socket.socket(socket.AF_INET6) as connection:
        assert caller_of(connection, host) == caller


def test_a_process_is_the_caller_on_a_unix_socket(tmp_path: Path) -> None:
    with connected(f"unix:{tmp_path}/h.sock") as (_, server):
        assert caller_of(server, "") == f"user {os.getuid()}, process {os.getpid()}"


def test_a_client_that_has_closed_has_gone(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"some")
    assert not has_gone(server)
    client.close()
    eventually(lambda: has_gone(server))


def test_a_hundred_early_calls_are_no_storm(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    server.settimeout(0)
    assert not begins_storm(server)
    call = frame(HEADERS, END_HEADERS, 1, header_block("/x")) + frame(DATA, 0, 1, b"\1" * 9)
    client.sendall(PREFACE + frame(SETTINGS, 0, 0) + 100 * call)
    assert not begins_storm(server)
    client.sendall(call)
    eventually(lambda: begins_storm(server))
    # Only looked at.
    assert server.recv(24) == PREFACE
    assert not begins_storm(server)
