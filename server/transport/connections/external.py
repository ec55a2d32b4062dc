"""grpc core's external acceptor: a listener that is given connections, instead of accepting them itself.

A C++ feature (`grpc::ServerBuilder::experimental().AddExternalConnectionAcceptor`): for an address external:NAME, core
stores a handler where the channel argument of that name points to. grpc's Python takes such arguments, objects with an
`__int__`, but has no way to call the handler, so that its one method is called here by its place in the table of
virtual functions, after a look at the name of its class.
"""

import ctypes
from typing import Any

_CLASS = b"ExternalConnectionHandler"
_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
# After two destructors: Handle(int listener_fd, int fd, grpc_byte_buffer* pending_data).
_HANDLE_INDEX = 2
_HANDLE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class ExternalListener:
    """One listener of a server; the option must be among the server's, and the address be added to it."""

    def __init__(self, name: str) -> None:
        self.address = f"external:{name}"
        self._cell = ctypes.c_void_p()
        self._handle: Any = None

    def __int__(self) -> int:
        """Where core stores its handler."""
        return ctypes.addressof(self._cell)

    @property
    def option(self) -> tuple[str, Any]:
        """The channel argument."""
        return self.address, self

    def usable(self) -> bool:
        """Whether this build of grpc has stored a handler of the known class; to call once the address is added."""
        handler = self._cell.value
        if handler is None:
            return False
        table = _pointer_at(handler)
        type_info = _pointer_at(table - _POINTER_BYTES)
        if not ctypes.string_at(_pointer_at(type_info + _POINTER_BYTES)).endswith(_CLASS + b"E"):
            return False
        self._handle = _HANDLE(_pointer_at(table + _HANDLE_INDEX * _POINTER_BYTES))
        return True

    def give(self, connection: int) -> None:
        """Serve a connected, non-blocking socket; core closes it. Not once the server has been stopped."""
        # Core only wants some number of a listening socket.
        self._handle(self._cell.value, 0, connection, None)


def _pointer_at(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0
