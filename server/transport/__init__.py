"""gRPC transports: two implementations of one contract."""

import asyncio
from typing import Protocol

from grpc import aio

from server.calls.waiting import WaitingCalls


class BindError(Exception):
    """The address cannot be bound."""


class AttachedService(Protocol):
    """A service that needs no token, on the event loop of the grpcio transport: health, load reports."""

    name: str

    async def attach(self, loop: asyncio.AbstractEventLoop, server: aio.Server, waiting: WaitingCalls, /) -> None:
        """Serve as a service of `server`, with its limits of calls that wait for a message."""
        ...

    def detach(self) -> None:
        """End its streams, on the loop."""
        ...


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
