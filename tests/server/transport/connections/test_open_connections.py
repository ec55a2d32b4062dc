"""Open connections are counted by address, and forgotten once their files are closed."""

import socket
from collections.abc import Iterator

import pytest

from server.transport.connections.open_connections import OpenConnections
from tests.server.models.test_manager import eventually


@pytest.fixture
def connections() -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(6)]
    yield made
    for connection in made:
        connection.close()


def test_an_address_has_its_share_and_all_have_a_limit(connections: list[socket.socket]) -> None:
    counted = OpenConnections(5, 3)
    for connection in connections[:3]:
        assert counted.admits("a")
        counted.add(connection.fileno(), "a")
    assert not counted.admits("a")
    for connection in connections[3:5]:
        assert counted.admits("b")
        counted.add(connection.fileno(), "b")
    assert not counted.admits("c")


def test_closed_connections_count_no_more(connections: list[socket.socket]) -> None:
    counted = OpenConnections(3, 3)
    for connection in connections[:3]:
        counted.add(connection.fileno(), "a")
    assert not counted.admits("a")
    connections[0].close()
    eventually(lambda: counted.admits("a"))


def test_a_number_that_is_used_again_belongs_to_its_new_connection(connections: list[socket.socket]) -> None:
    counted = OpenConnections(1, 1)
    counted.add(connections[0].fileno(), "a")
    counted.add(connections[0].fileno(), "b")
    assert counted._counts == {"b": 1}


@pytest.mark.parametrize(("host", "prefix"), [("127.0.0.1", "ipv4:127.0.0.1"), ("::1", "ipv6:%5B::1%5D")])
def test_a_connection_is_ended_by_the_name_of_its_peer(host: str, prefix: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2], timeout=10) as client,
    ):
        accepted, address = listener.accept()
        counted = OpenConnections(9, 9)
        with accepted:
            counted.add(accepted.fileno(), address[0], address[0], address[1])
            assert not counted.end(f"{prefix}:1")
            # Its address is a part of theirs.
            for other in ("ipv4:127.0.0.11", "ipv4:227.0.0.1", "ipv6:%5B::11%5D", "ipv6:%5Bfe80::1%5D"):
                assert not counted.end(f"{other}:{address[1]}")
            assert counted.end(f"{prefix}:{address[1]}")
            assert client.recv(1) == b""
        assert not counted.end(f"{prefix}:{address[1]}")


def test_an_address_is_written_in_several_ways() -> None:
    counted = OpenConnections(9, 9)
    for host, peer in (
        ("::ffff:192.0.2.1", "ipv4:192.0.2.1"),
        ("::ffff:192.0.2.1", "ipv6:%5B::ffff:192.0.2.1%5D"),
        ("fe80::1%eth0", "ipv6:%5Bfe80::1%252%5D"),
    ):
        ours, other = socket.socketpair()
        with ours, other:
            counted.add(ours.fileno(), host, host, 5000)
            assert counted.end(f"{peer}:5000")
            assert other.recv(1) == b""
