"""Reachability of a Ray cluster: connect before Ray does, which tries for minutes."""

import socket

_CONNECT_SECONDS = 5.0


def reach(address: str) -> None:
    """Try whether anything listens at HOST:PORT; the host may be an IPv6 address in brackets.

    Raises:
        OSError: nothing does.
        ValueError: the port is none.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except OverflowError as error:
        raise ValueError(str(error)) from error
