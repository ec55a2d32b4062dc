"""Listening: on all addresses of a name, on Unix sockets, and refused in one sentence."""

import socket
import stat
from pathlib import Path

import pytest

from server.transport import BindError
from server.transport.connections.listeners import listen, listen_at, port_of, release
from tests.server.conftest import serving


def test_an_address_in_use_is_refused(repository: Path) -> None:
    with serving(repository, transport="grpcio") as served:
        port = int(served.address.rpartition(":")[2])
        with (
            pytest.raises(BindError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"),
            serving(repository, transport="grpcio", port=port),
        ):
            pass
    with pytest.raises(BindError, match=r"cannot listen on no\.such\.host\.invalid:0"):
        listen("no.such.host.invalid", 0)


def test_all_addresses_of_a_name_have_one_port() -> None:
    listeners = listen("localhost", 0)
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


@pytest.fixture
def _both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have localhost name an address of IPv6 and one of IPv4, as on most machines."""
    with socket.socket(socket.AF_INET6) as tried:
        try:
            tried.bind(("::1", 0))
        except OSError as error:
            pytest.skip(f"there is no IPv6 here: {error}")

    def both(_: str, port: int, **kinds: int) -> list[object]:
        return [found for host in ("::1", "127.0.0.1") for found in of_one(host, port, **kinds)]

    of_one = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", both)


@pytest.mark.usefixtures("_both_families")
def test_a_port_that_is_in_use_at_one_address_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = port_of(other)
        with pytest.raises(BindError, match=f"cannot listen on localhost:{port}: .*in use"):
            listen("localhost", port)
        # What was open by then is closed.
        socket.create_server(("::1", port), family=socket.AF_INET6).close()


@pytest.mark.usefixtures("_both_families")
def test_a_chosen_port_is_free_at_all_addresses() -> None:
    listeners = listen("localhost", 0)
    assert [listener.family for listener in listeners] == [socket.AF_INET6, socket.AF_INET]
    assert len({port_of(listener) for listener in listeners}) == 1
    for listener in listeners:
        with listener, socket.socket(listener.family) as client:
            client.connect(listener.getsockname())


def test_an_address_that_this_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    of_one = socket.getaddrinfo
    # The first is for documentation (RFC 5737): no machine has it.
    hosts = ["192.0.2.1", "127.0.0.1"]

    def named(_: str, port: int, **kinds: int) -> list[object]:
        return [found for host in hosts for found in of_one(host, port, **kinds)]

    monkeypatch.setattr(socket, "getaddrinfo", named)
    (listener,) = listen("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    hosts.remove("127.0.0.1")
    with pytest.raises(BindError, match=r"cannot listen on localhost:0: .*Cannot assign"):
        listen("localhost", 0)


def test_another_port_is_chosen_if_one_is_not_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    of_one = socket.getaddrinfo
    # All interfaces have no port that the first one has taken.
    lists = [["127.0.0.1", "0.0.0.0"], ["127.0.0.1", "0.0.0.0"], ["127.0.0.1"]]  # noqa: S104 (closed at once)

    def named(_: str, port: int, **kinds: int) -> list[object]:
        return [found for host in lists.pop(0) for found in of_one(host, port, **kinds)]

    monkeypatch.setattr(socket, "getaddrinfo", named)
    (listener,) = listen("localhost", 0)
    listener.close()
    assert lists == []


def test_a_unix_socket_is_a_file_with_the_rights_that_the_mask_leaves(tmp_path: Path) -> None:
    path = tmp_path / "h.sock"
    (listener,) = listen_at(f"unix:{path}")
    with listener:
        assert port_of(listener) == 0
        assert stat.S_ISSOCK(path.stat().st_mode)
        (tmp_path / "f").touch(0o777)
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "f").stat().st_mode)
        with pytest.raises(BindError, match=f"cannot listen on {path}: Address already in use"):
            listen_at(f"unix:{path}")


def test_what_is_released_can_be_bound_by_others(tmp_path: Path) -> None:
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/h.sock"):
        free = release(listen_at(address), address)
        for listener in listen_at(free):
            assert listener.family == socket.AF_UNIX or free == f"127.0.0.1:{port_of(listener)}"
            listener.close()
