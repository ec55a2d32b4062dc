"""Latents in half precision, where a caller asks for them."""

from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from server.errors import InvalidArgumentError, OutOfRangeError

_LARGEST = float(np.finfo(np.float16).max)


def check_format(latent_format: int) -> None:
    """Refuse an unknown format."""
    if latent_format not in pb.LatentFormat.values():
        names = ", ".join(pb.LatentFormat.keys())
        raise InvalidArgumentError("latent_format", f"expected one of {names}, got {latent_format}")


def latents(array: NDArray[Any], latent_format: int, name: str) -> NDArray[Any]:
    """float32 in the requested format.

    Raises:
        OutOfRangeError: a number beyond those of float16.
    """
    if latent_format != pb.LATENT_FORMAT_FLOAT16:
        return array
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if not np.isfinite(halves).all():
        largest = float(np.abs(array).max())
        expected = f"expected {name} from {-_LARGEST:g} to {_LARGEST:g}, which float16 holds"
        raise OutOfRangeError(f"{expected}, got {largest:g}: ask for LATENT_FORMAT_FLOAT32")
    return halves
