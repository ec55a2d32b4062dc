"""Model signing: serve only bundles signed by a given key, if the settings require it."""

from pathlib import Path

from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.errors import BundleError
from bundle.signing import MAX_SIGNING_BYTES, PublicKey, check_signing


class SigningVerifier:
    """Rejects versions that are not signed by the key; accepts all when no key is given."""

    def __init__(self, key_file: Path | None) -> None:
        self._file = key_file
        self._key: PublicKey | None = None

    def start(self) -> None:
        """Read the key.

        Raises:
            KeyFileError: the package for checking is missing, or the file does not hold such a key.
        """
        if self._file is not None:
            self._key = PublicKey.read(self._file)

    def verify(self, folder: Path, model: Model) -> None:
        """Check the signature in a version's model.sig against the description read from model.json.

        Raises:
            BundleError: it is not signed, is signed by another key, or has changed since.
        """
        if self._key is None:
            return
        try:
            signature = layout.read_file(folder / layout.SIGNING_FILE, MAX_SIGNING_BYTES)
        except BundleError as error:
            raise BundleError(f"expected a signature, because --require-signature is set: {error}") from error
        # Serialise what was parsed, as export does: what is checked is what is used, including the hashes of all files.
        check_signing(signature, {layout.MODEL_FILE: layout.encode_model(model)}, self._key)
