"""The images or latents of a request, one by one, for cutting."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import DTYPES, Shapes, Size
from numpy.typing import NDArray

from hourglass_client.bands import files
from hourglass_client.errors import invalid
from hourglass_client.images import HeldArray
from hourglass_client.tensors import array_tensor, type_of

# As large as the models of one size that most callers have: they are asked nothing more.
_ALWAYS_FITS_PIXELS = 64 * 64
_COLOURS = {1, 3}


@dataclass
class Source:
    """One image, or the spatial latents of one."""

    size: Size
    """Height and width."""
    pixels: NDArray[Any] | None = None
    """(H, W, C); None of a file that is not decoded."""
    file: bytes = b""
    field: str = ""
    """Where the file stands in the request."""
    divided: bool = False
    """Whether it is too large for one request."""

    @property
    def nbytes(self) -> int:
        """Size in a request."""
        if self.pixels is None:
            return len(self.file)
        return self.pixels.size * DTYPES[type_of(self.pixels)].itemsize

    def decode(self, channels: int, *, keep_sixteen_bits: bool) -> None:
        """Decode the file."""
        if self.pixels is None:
            self.pixels = files.decode(self.field, self.file, channels, keep_sixteen_bits=keep_sixteen_bits)
            self.size, self.file = self.pixels.shape[:2], b""

    def message(self) -> pb.Images:
        """The whole of it."""
        if self.pixels is None:
            return pb.Images(encoded=pb.EncodedImages(files=[self.file]))
        return pb.Images(tensor=tensor(self.pixels))


def may_exceed(request: pb.Images | pb.Tensor) -> bool:
    """Whether it may be too large for one request of some model."""
    if isinstance(request, pb.Tensor):
        return len(request.shape) == 4  # noqa: PLR2004 (spatial latents)
    if request.HasField("encoded"):
        return True
    return _pixels(request.tensor.shape) > _ALWAYS_FITS_PIXELS


def of_latents(latents: pb.Tensor) -> list[Source]:
    """Latents (N, h, w, c), one by one."""
    return [Source(each.shape[:2], each) for each in array(latents)]


def of_images(images: pb.Images, shapes: Shapes, held: HeldArray | None) -> list[Source] | None:
    """Images one by one; None where the server must say what is wrong with them, or Pillow is missing.

    Raises:
        InvalidArgumentError: an array of another shape than the model's.
    """
    if images.HasField("encoded"):
        return _of_files(images.encoded.files)
    pixels, channels = array(images.tensor) if held is None else held.pixels, shapes.image[2]
    if pixels.ndim == 3:  # noqa: PLR2004 (one image, or grey ones: as the server decides it)
        pixels = pixels[None] if pixels.shape[2] == channels else pixels[..., None]
    if pixels.shape[3] != channels:
        grey = "(N, H, W), " if channels == 1 else ""
        expected = f"{grey}(N, H, W, {channels}) or one image (H, W, {channels})"
        raise invalid("images", f"expected {expected}, got {tuple(images.tensor.shape)}")
    return [Source(each.shape[:2], each) for each in pixels]


def array(message: pb.Tensor) -> NDArray[Any]:
    """A view of a tensor that the client made."""
    return np.frombuffer(message.data, DTYPES[message.data_type]).reshape(tuple(message.shape))


def tensor(item: NDArray[Any]) -> pb.Tensor:
    """(1, H, W, C) of one image (H, W, C)."""
    return array_tensor(item[np.newaxis])


def _of_files(given: Sequence[bytes]) -> list[Source] | None:
    found: list[Source] = []
    for index, file in enumerate(given):
        known = files.facts(file)
        if known is None:
            return None
        found.append(Source(known.size, None, file, f"images.encoded.files[{index}]"))
    return found


def _pixels(shape: Sequence[int]) -> int:
    """Of one image, (N, H, W, C), (N, H, W) or (H, W, C)."""
    if len(shape) == 4:  # noqa: PLR2004
        return shape[1] * shape[2]
    return prod(shape[:2]) if shape[2] in _COLOURS else prod(shape[1:])
