"""Whether anything listens where Ray should be."""

import socket

import pytest

from deploy.ray.reach import reach
from tests.deploy.conftest import free_port


@pytest.mark.parametrize(
    ("family", "host", "shown"), [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")]
)
def test_a_listener_is_reached(family: socket.AddressFamily, host: str, shown: str) -> None:
    try:
        listener = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with listener:
        reach(f"{shown}:{listener.getsockname()[1]}")


def test_where_nothing_listens() -> None:
    with pytest.raises(OSError, match="refused"):
        reach(f"127.0.0.1:{free_port()}")


@pytest.mark.parametrize("port", ["9" * 20, "ray", ""])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(ValueError, match=r"too large|invalid literal"):
        reach(f"127.0.0.1:{port}")
