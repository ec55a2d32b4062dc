"""Unix domain sockets: `--host unix:/path`, for callers on this machine (sidecars)."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from server.transport import BindError

_PREFIX = "unix:"
# A name has 108 bytes with its end on Linux, and fewer elsewhere.
_MAX_PATH_BYTES = 103


class UnixSocket:
    """The file of a socket: a stale one is replaced, and its own is removed at the end."""

    def __init__(self, address: str) -> None:
        self.path = Path(address.removeprefix(_PREFIX))

    def claim(self) -> None:
        """Make room for the socket.

        Raises:
            BindError: another server listens there, something else is there, or the path is too long.
        """
        if len(os.fsencode(self.path)) > _MAX_PATH_BYTES:
            raise BindError(f"cannot listen on {self.path}: expected a path of at most {_MAX_PATH_BYTES} bytes")
        if not self.path.parent.is_dir():
            raise BindError(f"cannot listen on {self.path}: {self.path.parent} is not a directory")
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise BindError(f"cannot listen on {self.path}: it exists and is not a socket")
            if is_served(self.path):
                raise BindError(f"cannot listen on {self.path}: another server does")
            self.path.unlink()

    def remove(self) -> None:
        """Remove the file; grpc does so itself, the native transport does not."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def unix_socket(address: str | None) -> UnixSocket | None:
    """The socket of an address such as unix:/run/hourglass.sock; None for others."""
    return UnixSocket(address) if address is not None and address.startswith(_PREFIX) else None


def is_served(path: Path) -> bool:
    """Whether a server listens on a socket file."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
