"""gRPC transports: two implementations of one contract."""

from typing import Protocol


class BindError(Exception):
    """The address cannot be bound."""


class Transport(Protocol):
    """Passes calls from the network to the endpoint, and its answers back."""

    name: str

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            BindError: the address is in use or does not belong to this machine.
        """
        ...

    def close(self) -> None:
        """Stop listening and end the calls that are left."""
        ...
