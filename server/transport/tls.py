"""TLS: certificate, key and client authorities from files, read anew when they are replaced."""

import logging
import ssl
from functools import partial
from pathlib import Path

import grpc

from server.file_watch import WatchedFiles

_LOGGER = logging.getLogger(__name__)


class TlsError(Exception):
    """The files make no certificate that can be served."""


class Certificates:
    """What the server shows to whoever connects, and with `client_ca` whom it lets connect at all (mutual TLS).

    Each listener hears of new files by itself.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._watches: list[WatchedFiles] = []

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a gRPC listener, which asks for changes before each handshake.

        Raises:
            TlsError: a file is missing, is no PEM, or key and certificate do not belong together.
        """
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            partial(self._changed, self.watch()),  # pyright: ignore[reportArgumentType] (None means no change)
            require_client_authentication=self._client_ca is not None,
        )

    def watch(self) -> WatchedFiles:
        """The files as one more listener has read them."""
        files = [self._certificate, self._key, *([] if self._client_ca is None else [self._client_ca])]
        self._watches.append(WatchedFiles(files))
        self._watches[-1].changed()
        return self._watches[-1]

    def renew(self, context: ssl.SSLContext, watch: WatchedFiles) -> None:
        """Have a listener of Python's own show what has changed; authorities that are gone stay until a restart."""
        if self._changed(watch) is None:
            return
        try:
            self._load(context)
        except OSError:
            # Replaced again meanwhile.
            watch.forget()

    def reload(self) -> None:
        """Read the files again at the next handshake, changed or not."""
        for watch in self._watches:
            watch.forget()

    def _changed(self, watch: WatchedFiles) -> grpc.ServerCertificateConfiguration | None:
        """What has changed since the last time; None for nothing, or nothing that can be served."""
        if not watch.changed():
            return None
        try:
            configuration = self._read()
        except TlsError as error:
            # Of two files one may be there already: the next handshake looks again.
            watch.forget()
            _LOGGER.error("%s; the certificate read before goes on", error)  # noqa: TRY400 (the text says it all)
            return None
        _LOGGER.info("the certificate has been read anew from %s", self._certificate)
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            key, chain = self._key.read_bytes(), self._certificate.read_bytes()
            authorities = None if self._client_ca is None else self._client_ca.read_bytes()
            # Let OpenSSL judge: gRPC would refuse handshakes without a word. ssl.SSLError is an OSError.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except (OSError, ValueError) as error:
            raise TlsError(f"TLS from {self._certificate} and {self._key}: {error}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def _load(self, context: ssl.SSLContext) -> None:
        # Without an answer for a password an encrypted key would be asked for on the terminal.
        context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
