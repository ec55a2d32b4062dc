"""Bytes in, bytes out: two transports with one contract."""

from typing import Protocol


class BindError(Exception):
    """The address cannot be listened on."""


class Transport(Protocol):
    """Takes calls from the network to the endpoint."""

    name: str

    def start(self) -> int:
        """Listen; the port.

        Raises:
            BindError: the address is taken or not ours.
        """
        ...

    def close(self) -> None:
        """Stop listening and end what is left."""
        ...
