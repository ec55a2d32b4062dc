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
