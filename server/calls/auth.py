"""Authentication and authorisation: bearer tokens from a file, with rights."""

import hashlib
import hmac
import logging
import time
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from server.calls.call import Metadata
from server.errors import PermissionDeniedError, UnauthenticatedError
from server.file_watch import FileWatcher

Right: TypeAlias = Literal["inference", "admin"]

_LOGGER = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_SHORTEST_TOKEN = 16
# A call's token is compared with every one in the file: a thousand take a few tenths of a millisecond.
_MAX_FILE_BYTES = 64 * 1024
_SCHEME = "bearer "


class TokenFileError(Exception):
    """The token file cannot be used."""


class TokenAuth:
    """Authorises calls by their bearer token; without a token file it allows everything.

    A line of the file is `RIGHT TOKEN`, or `inference,admin TOKEN` for both rights. Several tokens may be valid at
    once: add the new one, move the callers, remove the old one. A file that has changed is reloaded within a second.
    """

    def __init__(self, file: Path | None) -> None:
        self.required = file is not None
        """Whether calls need a token."""
        self._file = file
        self._watched = FileWatcher([] if file is None else [file])
        self._looked = 0.0
        self._rights: list[tuple[bytes, frozenset[str]]] = []

    def start(self) -> None:
        """Read the file.

        Raises:
            TokenFileError: it cannot be read, or a line is wrong.
        """
        if self._file is not None:
            self._watched.changed()
            self._rights = read_tokens(self._file)

    def reload(self) -> None:
        """Read the file again before the next call, changed or not."""
        self._watched.invalidate()
        self._looked = 0.0

    def check(self, metadata: Metadata, right: Right) -> None:
        """Refuse a call whose token does not grant a right.

        Raises:
            UnauthenticatedError: no token, or one that is not in the file.
            PermissionDeniedError: the token does not grant this right.
        """
        if self._file is None:
            return
        self._look(self._file)
        rights = self._rights_of(_token(metadata))
        if rights is None:
            raise UnauthenticatedError(
                "expected the metadata entry `authorization: Bearer TOKEN` with a token that this server knows"
            )
        if right not in rights:
            raise PermissionDeniedError(f"This token does not grant the {right!r} right.")

    def bearer(self, metadata: Metadata) -> str:
        """Return the token of a call, valid or not; an empty string if no token is required."""
        return "" if self._file is None else _token(metadata)

    def _look(self, file: Path) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if not self._watched.changed():
            return
        try:
            self._rights = read_tokens(file)
        except TokenFileError as error:
            self._watched.invalidate()
            _LOGGER.error("%s; the previous tokens stay valid", error)  # noqa: TRY400 (the text says it all)
        else:
            _LOGGER.info("%d tokens reloaded from %s", len(self._rights), file)

    def _rights_of(self, token: str) -> frozenset[str] | None:
        """Rights of a token, found in constant time; None for an unknown one."""
        got = _digest(token)
        found = None
        for known, rights in self._rights:
            if hmac.compare_digest(known, got):
                found = rights
        return found


def read_tokens(file: Path) -> list[tuple[bytes, frozenset[str]]]:
    """SHA-256 and rights of each token, those of all its lines together; `#` begins a comment line.

    Raises:
        TokenFileError: names the line, never the token.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        # Some editors write a byte-order mark.
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{file}: expected a readable token file: {error}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise TokenFileError(f"{file}: expected at most {_MAX_FILE_BYTES} bytes of tokens, got more")
    tokens: dict[bytes, frozenset[str]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and line[0] != "#":
            digest, rights = _parse(file, number, line)
            tokens[digest] = tokens.get(digest, frozenset()) | rights
    if not tokens:
        raise TokenFileError(f"{file}: expected `inference TOKEN` or `admin TOKEN` a line, got no token")
    return list(tokens.items())


def _parse(file: Path, number: int, line: str) -> tuple[bytes, frozenset[str]]:
    words = line.split()
    if len(words) != 2:  # noqa: PLR2004 (rights and token)
        raise TokenFileError(f"{file}, line {number}: expected `RIGHT TOKEN`, got {len(words)} words")
    rights = frozenset(words[0].split(","))
    if not rights <= set(get_args(Right)):
        raise TokenFileError(f"{file}, line {number}: expected the rights inference or admin, got {words[0]!r}")
    if len(words[1]) < _SHORTEST_TOKEN:
        raise TokenFileError(f"{file}, line {number}: expected a token of at least {_SHORTEST_TOKEN} characters")
    return _digest(words[1]), rights


def _digest(token: str) -> bytes:
    # All of equal length, so that comparing them does not reveal a token's length.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _token(metadata: Metadata) -> str:
    for key, value in metadata:
        if key == "authorization":
            text = value if isinstance(value, str) else value.decode("latin-1")
            return text[len(_SCHEME) :].strip() if text[: len(_SCHEME)].lower() == _SCHEME else ""
    return ""
