"""TLS: certificate, key and client authorities from files, reloaded when they are replaced."""

import logging
import ssl
from functools import partial
from pathlib import Path

import grpc

from server.file_watch import FileWatcher

_LOGGER = logging.getLogger(__name__)


class TlsError(Exception):
    """The files do not hold a usable certificate."""


class Certificates:
    """The server's certificate and, with `client_ca`, the authorities that clients must have one from (mutual TLS).

    Each listener detects new files independently.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._watches: list[FileWatcher] = []

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a gRPC listener, which checks for changes before each handshake.

        Raises:
            TlsError: a file is missing or is not PEM, or the key does not match the certificate.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            partial(self._changed, self.watch()),  # pyright: ignore[reportArgumentType] (None means no change)
            require_client_authentication=self._client_ca is not None,
        )

    def watch(self) -> FileWatcher:
        """A watcher of the files for one more listener, which has just read them."""
        files = [self._certificate, self._key, *([] if self._client_ca is None else [self._client_ca])]
        self._watches.append(FileWatcher(files))
        self._watches[-1].changed()
        return self._watches[-1]

    def renew(self, context: ssl.SSLContext, watch: FileWatcher) -> None:
        """Reload changed files into the context of a Python listener; removed authorities stay until a restart."""
        if self._changed(watch) is None:
            return
        try:
            self._load(context)
        except OSError:
            # They were replaced again in the meantime.
            watch.invalidate()

    def reload(self) -> None:
        """Read the files again at the next handshake, whether they changed or not."""
        for watch in self._watches:
            watch.invalidate()

    def _changed(self, watch: FileWatcher) -> grpc.ServerCertificateConfiguration | None:
        """The new certificate if the files changed since the last check and are usable, otherwise None."""
        if not watch.changed():
            return None
        try:
            configuration = self._read()
        except TlsError as error:
            # Perhaps only one of two files has been replaced yet: check again at the next handshake.
            watch.invalidate()
            _LOGGER.error("%s; the previous certificate stays in use", error)  # noqa: TRY400 (the message is enough)
            return None
        _LOGGER.info("certificate reloaded from %s", self._certificate)
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            key, chain = self._key.read_bytes(), self._certificate.read_bytes()
            authorities = None if self._client_ca is None else self._client_ca.read_bytes()
            # OpenSSL reports what is wrong; gRPC would silently refuse handshakes. ssl.SSLError is an OSError.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (OSError, ValueError) as error:
            raise TlsError(f"TLS from {self._certificate} and {self._key}: {error}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def _load(self, context: ssl.SSLContext) -> None:
        # Without a password callback OpenSSL would prompt for an encrypted key's password on the terminal.
        context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
