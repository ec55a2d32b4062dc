"""Signing of bundles after OpenSSF Model Signing v1 (https://github.com/ossf/model-signing-spec).

`model.sig` is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists the SHA-256 of every file,
signed by an elliptic-curve key. The package model-signing makes it and checks folders; here the bytes that were read
are checked, so that nothing can change between check and use.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.errors import BundleError
from bundle.layout import read_file

MAX_SIGNING_BYTES = 1024 * 1024
"""Of a key or signature; real ones take a few KiB."""
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


class KeyFileError(Exception):
    """A key is unusable; the text says why and what to do."""


class PublicKey:
    """The key that must have signed; needs the package cryptography."""

    def __init__(self, inner: Any, hash_algorithm: Any) -> None:  # noqa: ANN401 (the types of an optional package)
        self._inner = inner
        self._hash_algorithm = hash_algorithm

    @classmethod
    def read(cls, file: Path) -> "PublicKey":
        """Read a PEM file with a public key on NIST P-256, P-384 or P-521.

        Raises:
            KeyFileError: there is no such file or key, or the package is missing.
        """
        try:
            from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (an extra)
            from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 (likewise)
            from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 (likewise)
        except ImportError as error:
            raise KeyFileError("signatures need an extra: pip install '.[signatures]' in a checkout") from error
        try:
            key = serialization.load_pem_public_key(read_file(file, MAX_SIGNING_BYTES))
        except (BundleError, ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError(f"{file}: expected a public key in PEM form: {error}") from error
        algorithms = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size not in algorithms:
            raise KeyFileError(f"{file}: expected a key on NIST P-256, P-384 or P-521, got {type(key).__name__}")
        return cls(key, ec.ECDSA(algorithms[key.curve.key_size]()))

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the private key made this signature of the message."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (an extra)

        try:
            self._inner.verify(signature, message, self._hash_algorithm)
        except InvalidSignature:
            return False
        return True


def check_signing(signing: bytes, contents: Mapping[str, bytes], key: PublicKey) -> None:
    """Check the bytes of model.sig against files by name; model.json suffices, as it lists the hashes of the others.

    Raises:
        BundleError: it is not a signature, was made by another key, or is of other files.
    """
    try:
        envelope = json.loads(signing)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signed = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        kind = str(envelope["payloadType"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BundleError(f"model.sig: expected a Sigstore bundle in JSON: {error!r}") from error
    if kind != _PAYLOAD_TYPE or not key.has_signed(_pre_authentication(kind, payload), signed):
        raise BundleError("model.sig: the given key did not sign it: have the version signed by its owner")
    digests = _digests(payload)
    for name, data in contents.items():
        if digests.get(name) != hashlib.sha256(data).hexdigest():
            raise BundleError(f"model.sig: {name} is not the file that was signed: copy or export the version again")


def _digests(payload: bytes) -> dict[str, str]:
    """SHA-256 by file name, of a signed in-toto statement."""
    try:
        statement = json.loads(payload)
        known = statement["predicateType"] == _PREDICATE_TYPE
        resources: list[dict[str, object]] = statement["predicate"]["resources"] if known else []
        return {str(each["name"]): str(each["digest"]) for each in resources if each["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"model.sig: expected a statement of OpenSSF Model Signing: {error!r}") from error


def _pre_authentication(kind: str, payload: bytes) -> bytes:
    """What DSSE signs: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
