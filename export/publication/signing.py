"""Signs a version with a local key, after OpenSSF Model Signing; needs the extra `signing`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from bundle.errors import BundleError
from bundle.layout import REPORT_FILE, SIGNING_FILE, read_file
from bundle.signing import MAX_SIGNING_BYTES
from export.errors import InputError


def signer(key: Path) -> Callable[[Path], None]:
    """Function that writes model.sig into a version's folder; `key`: PEM file, unencrypted, elliptic curve.

    Raises:
        InputError: no such key, or the extra is missing.
    """
    try:
        from model_signing import hashing, signing  # noqa: PLC0415 (an extra, and a second to import)
    except ImportError as error:
        raise InputError("--sign-key needs an extra: pip install '.[signing]' in a checkout") from error
    config: Any = signing.Config()
    try:
        # The library would wait for ever on a pipe.
        read_file(key, MAX_SIGNING_BYTES)
        config.use_elliptic_key_signer(private_key=key)
    except (
        BundleError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:  # AttributeError: a key without a curve
        raise InputError(
            f"{key}: expected an unencrypted private key on an elliptic curve, in PEM form: {error}"
        ) from error

    def sign(folder: Path) -> None:
        # The report is not served.
        ignored = [folder / REPORT_FILE, folder / SIGNING_FILE]
        hashes = cast("Any", hashing.Config()).set_ignored_paths(paths=ignored, ignore_git_paths=False)
        config.set_hashing_config(hashes).sign(folder, folder / SIGNING_FILE)

    return sign
