"""Ed25519 signatures of bundles: whoever holds the private key says what may be served.

`model.sig` holds the 64 bytes that sign model.json, which lists the SHA-256 of every other file:
openssl pkeyutl -sign -rawin -inkey private.pem -in model.json -out model.sig
"""

from pathlib import Path
from typing import Protocol

from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.errors import BundleError

_SIGNATURE_BYTES = 64


class SignatureKeyError(Exception):
    """The public key cannot be used."""


class PublicKey(Protocol):
    """What is taken of `cryptography`."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature unless the private key has signed the data."""
        ...


class SignatureCheck:
    """Refuses versions that a key has not signed; without a key it refuses nothing."""

    def __init__(self, key_file: Path | None) -> None:
        self._file = key_file
        self._key: PublicKey | None = None

    def start(self) -> None:
        """Read the key.

        Raises:
            SignatureKeyError: no package to check with, or no Ed25519 public key in the file.
        """
        if self._file is not None:
            self._key = _read_key(self._file)

    def check(self, folder: Path, model: Model) -> None:
        """Compare the version's model.sig with the description that has been read from it.

        Raises:
            BundleError: not signed, or signed by another key, or changed since.
        """
        if self._key is None:
            return
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (an extra)

        path = folder / layout.SIGNATURE_FILE
        try:
            with path.open("rb") as stream:
                signature = stream.read(_SIGNATURE_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{path}: wanted a signature, as --require-signature says: {error.strerror}") from error
        try:
            # What was parsed, written as export writes it: what is checked is what is used.
            self._key.verify(signature, layout.encode_model(model))
        except InvalidSignature as error:
            raise BundleError(
                f"{path}: wanted a signature of model.json, as export wrote it, by the key {self._file}, got another"
            ) from error


def _read_key(file: Path) -> PublicKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (an extra)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 (likewise)
        from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 (likewise)
    except ImportError as error:
        raise SignatureKeyError("--require-signature needs the extra: pip install 'hourglass[signatures]'") from error
    try:
        key = load_pem_public_key(file.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SignatureKeyError(f"{file}: wanted an Ed25519 public key in PEM form: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureKeyError(f"{file}: wanted an Ed25519 public key, got {type(key).__name__}")
    return key
