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
_PROBE_SECONDS = 1.0


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
        try:
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise BindError(f"cannot listen on {self.path}: it exists and is not a socket")
            if is_served(self.path):
                raise BindError(f"cannot listen on {self.path}: another server does")
            self.path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise BindError(f"cannot listen on {self.path}: {error.strerror}") from error

    def remove(self) -> None:
        """Remove the file, unless another server listens there by now; grpc does so itself, native does not."""
        with suppress(OSError):
            if not is_served(self.path):
                self.path.unlink(missing_ok=True)


def unix_socket(address: str | None) -> UnixSocket | None:
    """The socket of an address such as unix:/run/hourglass.sock; None for others."""
    return UnixSocket(address) if address is not None and address.startswith(_PREFIX) else None


def is_served(path: Path) -> bool:
    """Whether a server listens on a socket file, or may: only a refusal says that none does.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        # A server that is stopped accepts nothing, and its queue may be full.
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except FileNotFoundError:
            raise
        except OSError:
            return True
        return True
