"""Only bundles that a key has signed are served, where the settings ask for it."""

from pathlib import Path

from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.errors import BundleError
from bundle.signing import PublicKey, check_signing

_MAX_SIGNATURE_BYTES = 1024 * 1024


class SignatureCheck:
    """Refuses versions that a key has not signed; without a key it refuses nothing."""

    def __init__(self, key_file: Path | None) -> None:
        self._file = key_file
        self._key: PublicKey | None = None

    def start(self) -> None:
        """Read the key.

        Raises:
            KeyFileError: no package to check with, or no such key in the file.
        """
        if self._file is not None:
            self._key = PublicKey.read(self._file)

    def check(self, folder: Path, model: Model) -> None:
        """Compare the version's model.sig with the description that has been read from model.json.

        Raises:
            BundleError: not signed, or signed by another key, or changed since.
        """
        if self._key is None:
            return
        try:
            signature = layout.read_file(folder / layout.SIGNING_FILE, _MAX_SIGNATURE_BYTES)
        except BundleError as error:
            raise BundleError(f"expected a signature, as --require-signature says: {error}") from error
        # What was parsed, written as export writes it: what is checked is what is used, hashes of all files included.
        check_signing(signature, {layout.MODEL_FILE: layout.encode_model(model)}, self._key)
