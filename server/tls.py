"""TLS: certificate, key and client authorities from files, read anew when they are replaced."""

import logging
import ssl
from pathlib import Path

import grpc

from server.watch import WatchedFiles

_LOGGER = logging.getLogger(__name__)


class TlsError(Exception):
    """The files make no certificate that can be served."""


class Certificates:
    """What the server shows to whoever connects, and with `client_ca` whom it lets connect at all (mutual TLS)."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._files = WatchedFiles([certificate, key] if client_ca is None else [certificate, key, client_ca])

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for a listener; gRPC asks for changes before each handshake.

        Raises:
            TlsError: a file is missing, is no PEM, or key and certificate do not belong together.
        """
        self._files.changed()
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            self.refresh,  # pyright: ignore[reportArgumentType] (None means no change)
            require_client_authentication=self._client_ca is not None,
        )

    def refresh(self) -> grpc.ServerCertificateConfiguration | None:
        """What has changed since the last time; None for nothing, or nothing that can be served."""
        if not self._files.changed():
            return None
        try:
            configuration = self._read()
        except TlsError as error:
            # Of two files one may be there already: the next handshake looks again.
            self._files.forget()
            _LOGGER.error("%s; the certificate read before goes on", error)  # noqa: TRY400 (the text says it all)
            return None
        _LOGGER.info("the certificate has been read anew from %s", self._certificate)
        return configuration

    def reload(self) -> None:
        """Read the files again at the next handshake, changed or not."""
        self._files.forget()

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            key, chain = self._key.read_bytes(), self._certificate.read_bytes()
            authorities = None if self._client_ca is None else self._client_ca.read_bytes()
            self._check()
        except (OSError, ValueError) as error:
            raise TlsError(f"TLS from {self._certificate} and {self._key}: {error}") from error
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def _check(self) -> None:
        """Let OpenSSL judge: gRPC would refuse handshakes without a word. ssl.SSLError is an OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Without an answer for a password an encrypted key would be asked for on the terminal.
        context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
