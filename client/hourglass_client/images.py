"""Arrays, PIL images and files to `Images` messages, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard, cast, runtime_checkable

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import ArrayLike, NDArray

from hourglass_client.errors import invalid
from hourglass_client.tensors import byte_tensor, float_tensor, to_array

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class Savable(Protocol):
    """A PIL image, without importing Pillow to know it."""

    def save(self, fp: Any, format: str | None = None) -> None:  # noqa: A002, ANN401 (Pillow's own names)
        """Write the image to a file."""
        ...


# An image as a file: its path, its contents (PNG, JPEG or WebP), or a PIL image.
ImageFile: TypeAlias = str | PathLike[str] | bytes | Savable
# (N, H, W), (N, H, W, C) or, for one grey image, (H, W): uint8 in 0…255 or floating point in 0…1; or image files.
ImageInput: TypeAlias = ArrayLike | ImageFile | Sequence[ImageFile]
ImageFormat = Literal["uint8", "float32", "png", "none"]

_FORMATS = {
    "uint8": pb.IMAGE_FORMAT_UINT8,
    "float32": pb.IMAGE_FORMAT_FLOAT32,
    "png": pb.IMAGE_FORMAT_PNG,
    "none": pb.IMAGE_FORMAT_NONE,
}
_BATCH_AXES = (3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Images of an answer: `images` for "uint8" and "float32", `files` for "png", neither for "none"."""

    images: NDArray[Any]
    """(N, H, W, C) uint8 in 0…255 or float32 in 0…1; (0, 0, 0, 0) when the answer carries none."""
    files: tuple[bytes, ...]
    """PNG files, N of them."""

    def to_pil(self) -> list[Image]:
        """The images as PIL images; needs Pillow (`pip install 'hourglass-client[images]'`)."""
        try:
            from PIL import Image as pillow  # noqa: N813, PLC0415 (an optional extra)
        except ImportError as missing:
            raise ImportError("to_pil needs Pillow: pip install 'hourglass-client[images]'") from missing
        if self.files:
            return [pillow.open(BytesIO(file)) for file in self.files]
        pixels = self.images
        if pixels.dtype != np.uint8:
            # Rounding may leave a sigmoid slightly outside 0…1, which a cast would wrap around.
            pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        return [pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]


def image_format(name: ImageFormat) -> pb.ImageFormat:
    """The protobuf enum value of an image format."""
    if name not in _FORMATS:
        raise invalid("image_format", f"expected one of {', '.join(_FORMATS)}, got {name!r}")
    return _FORMATS[name]


def to_message(field: str, images: ImageInput, *, resize: bool = False) -> pb.Images:
    """Images of any accepted form to the message; files and PIL images are sent as files, which the server decodes."""
    if _is_file(images):
        return pb.Images(encoded=pb.EncodedImages(files=[_contents(images)], resize=resize))
    if _are_files(images):
        return pb.Images(encoded=pb.EncodedImages(files=[_contents(image) for image in images], resize=resize))
    return pb.Images(tensor=_pixels(field, np.asarray(images)))


def from_message(message: pb.Images) -> tuple[NDArray[Any], tuple[bytes, ...]]:
    """Images of an answer: their array and their PNG files, one of which is empty."""
    if message.HasField("tensor"):
        return to_array(message.tensor), ()
    return np.empty((0, 0, 0, 0), np.uint8), tuple(message.encoded.files)


def _is_file(image: object) -> TypeGuard[ImageFile]:
    return isinstance(image, (str, PathLike, bytes, Savable))


def _are_files(images: object) -> TypeGuard[Sequence[ImageFile]]:
    if not isinstance(images, (list, tuple)):
        return False
    each = cast("Sequence[object]", images)
    return len(each) > 0 and all(_is_file(image) for image in each)


def _contents(image: ImageFile) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Savable):
        buffer = BytesIO()
        image.save(buffer, format="PNG")
        return buffer.getvalue()
    return Path(fspath(image)).read_bytes()


def _pixels(field: str, array: NDArray[Any]) -> pb.Tensor:
    if array.ndim == 2:  # noqa: PLR2004 (H, W): one grey image; three axes are always (N, H, W)
        array = array[np.newaxis]
    if array.ndim not in _BATCH_AXES:
        raise invalid(field, f"expected (N, H, W), (N, H, W, C) or one image (H, W), got shape {array.shape}")
    if array.dtype == np.uint8:
        return byte_tensor(array)
    if array.dtype.kind == "f":
        return float_tensor(array)
    raise invalid(field, f"expected uint8 in 0 to 255 or floating point in 0 to 1, got {array.dtype}")
