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
from autoencoder.v1 import png
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT16
from numpy.typing import ArrayLike, NDArray

from hourglass_client.errors import HourglassError, invalid
from hourglass_client.tensors import array_tensor, to_array, type_of

if TYPE_CHECKING:
    from PIL.Image import Image


@runtime_checkable
class Savable(Protocol):
    """A PIL image, without importing Pillow to know it."""

    def save(self, fp: Any, format: str | None = None) -> None:  # noqa: A002, ANN401 (Pillow's own names)
        """Write the image to a file."""
        ...


# An image as a file: its path, its contents (PNG, JPEG, WebP, BMP, GIF or TIFF), or a PIL image.
ImageFile: TypeAlias = str | PathLike[str] | bytes | Savable
# (N, H, W), (N, H, W, C) or one image, (H, W) or (H, W, C): uint8 in 0…255, uint16 in 0…65,535 or floating point in
# 0…1; or image files.
ImageInput: TypeAlias = ArrayLike | ImageFile | Sequence[ImageFile]
ImageFormat = Literal["uint8", "uint16", "float32", "png", "png16", "none"]

_FORMATS = {
    "uint8": pb.IMAGE_FORMAT_UINT8,
    "uint16": pb.IMAGE_FORMAT_UINT16,
    "float32": pb.IMAGE_FORMAT_FLOAT32,
    "png": pb.IMAGE_FORMAT_PNG,
    "png16": pb.IMAGE_FORMAT_PNG16,
    "none": pb.IMAGE_FORMAT_NONE,
}
_BATCH_AXES = (3, 4)
_UNSIGNED_BYTES = {1, 2}
# Of an array that may be too large for one request.
_HELD_BYTES = 2**22
# Modes of PIL images that PNG holds, and what others become: what the server makes of their files too.
_PNG_MODES = {mode: mode for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")}
_OTHER_MODES = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA"} | dict.fromkeys(
    ("CMYK", "YCbCr", "HSV", "LAB", "RGBX"), "RGB"
)
_SENT_AS = _PNG_MODES | _OTHER_MODES
# What the server decodes of one file, unless set otherwise; it reads a larger JPEG at a reduced scale.
_LARGE_PIXELS = 4_194_304
_SCALES = (2, 4, 8)
_JPEG = {"JPEG", "MPO"}
_REDUCIBLE_AS = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}
_LARGEST_EIGHT = 255
_LARGEST_SIXTEEN = 65_535


@dataclass(frozen=True, slots=True, eq=False)
class HeldArray:
    """A large array of images, which is not copied into a request as a whole."""

    pixels: NDArray[Any]
    """(N, H, W), (N, H, W, C) or (H, W, C)."""

    def fill(self, message: pb.Images) -> None:
        """Copy it into the request after all."""
        message.tensor.CopyFrom(array_tensor(self.pixels))


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Images of an answer: `images` for "uint8", "uint16" and "float32", `files` for "png" and "png16"."""

    images: NDArray[Any]
    """(N, H, W, C) uint8 in 0…255, uint16 in 0…65,535 or float32 in 0…1; (0, 0, 0, 0) when the answer carries none."""
    files: tuple[bytes, ...]
    """PNG files, N of them."""

    def to_pil(self) -> list[Image]:
        """The images as PIL images, grey ones of 16 bits in mode I;16; needs Pillow, the extra `images`.

        Raises:
            ValueError: colours of 16 bits, which Pillow cannot hold.
        """
        try:
            from PIL import Image as pillow  # noqa: N813, PLC0415 (an optional extra)
        except ImportError as missing:
            raise ImportError("to_pil needs Pillow: pip install './client[images]' in a checkout") from missing
        if any((header := png.header(file)) and header.bits > 8 and not header.grey for file in self.files):  # noqa: PLR2004 (bits)
            raise _no_mode("png")
        if self.files:
            return [pillow.open(BytesIO(file)) for file in self.files]
        pixels = self.images
        if pixels.dtype == np.uint16 and pixels.shape[-1] != 1:
            raise _no_mode("uint8")
        if pixels.dtype.kind == "f":
            # Rounding may leave a sigmoid slightly outside 0…1, which a cast would wrap around.
            pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
        return [pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in pixels]


def _no_mode(instead: str) -> ValueError:
    return ValueError(f"Pillow cannot hold colours of 16 bits: use the arrays or files, or ask for {instead!r}")


def image_format(name: ImageFormat | None, *inputs: pb.Images | None) -> pb.ImageFormat:
    """The protobuf enum value of an image format; without one that of the inputs: uint16 for uint16, else uint8."""
    if name is None:
        words = any(each is not None and each.tensor.data_type == DATA_TYPE_UINT16 for each in inputs)
        return pb.IMAGE_FORMAT_UINT16 if words else pb.IMAGE_FORMAT_UINT8
    if name not in _FORMATS:
        raise invalid("image_format", f"expected one of {', '.join(_FORMATS)}, got {name!r}")
    return _FORMATS[name]


def held(field: str, images: ImageInput) -> ImageInput | HeldArray:
    """The images themselves, or a large array of them, held back."""
    if isinstance(images, np.ndarray) and images.nbytes >= _HELD_BYTES:
        return HeldArray(_pixels(field, cast("NDArray[Any]", images)))
    return cast("ImageInput", images)


def to_message(field: str, images: ImageInput | HeldArray, *, resize: bool = False) -> pb.Images:
    """Images of any accepted form to the message; files and PIL images are sent as files, which the server decodes."""
    if isinstance(images, HeldArray):
        return pb.Images(tensor=pb.Tensor(data_type=type_of(images.pixels), shape=images.pixels.shape))
    if _is_file(images):
        return pb.Images(encoded=pb.EncodedImages(files=[_contents(field, images, resize=resize)], resize=resize))
    if _are_files(images):
        files = [_contents(f"{field}[{index}]", image, resize=resize) for index, image in enumerate(images)]
        return pb.Images(encoded=pb.EncodedImages(files=files, resize=resize))
    return pb.Images(tensor=array_tensor(_pixels(field, _array(field, images))))


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


def _contents(field: str, image: ImageFile, *, resize: bool) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Savable):
        return _of_pil(field, cast("Image", image), resize=resize)
    path = Path(fspath(image))
    try:
        return path.read_bytes()
    except IsADirectoryError as error:
        raise invalid(
            field, f"expected an image file, got the folder {path}: list its files, or run `hourglass` on it"
        ) from error
    except (OSError, ValueError) as error:
        # ValueError: a path with a zero byte.
        reason = error.strerror if isinstance(error, OSError) else error
        raise invalid(field, f"expected a readable image file, got {path}: {reason}") from error


def _of_pil(field: str, image: Image, *, resize: bool) -> bytes:
    """A file from which the server reads the same pixels as from the image's own, or one that it can resize."""
    try:
        if resize and image.width * image.height > _LARGE_PIXELS:
            return _jpeg_file(image) or _png(field, image, _LARGE_PIXELS)
        return _png(field, image)
    except HourglassError:
        raise
    except Exception as error:
        # Only now does Pillow read the rest of a file that may be truncated, and a decoder may raise anything.
        raise invalid(field, f"expected a readable PIL image: {error}") from error


def _jpeg_file(image: Image) -> bytes | None:
    """The file of a JPEG that Pillow has not decoded yet, so that nothing can have changed its pixels."""
    file: Any = getattr(image, "fp", None)
    if image.format not in _JPEG or not getattr(image, "tile", None) or file is None:
        return None
    file.seek(0)
    return file.read()


def _png(field: str, image: Image, most_pixels: int | None = None) -> bytes:
    """A PNG file of the image, reduced to `most_pixels` as the server reduces a JPEG: by 2, 4 or 8 on both sides."""
    from PIL import ImageOps  # noqa: PLC0415 (with a PIL image comes Pillow)

    # PNG files that Pillow writes hold no orientation, so that the image must be upright.
    ready = _of_png_mode(field, ImageOps.exif_transpose(image))
    if most_pixels is not None and ready.mode in _REDUCIBLE_AS:
        scale = next((each for each in _SCALES if ready.width * ready.height <= most_pixels * each**2), _SCALES[-1])
        as_mode = "RGBA" if ready.has_transparency_data else _REDUCIBLE_AS[ready.mode]
        ready = ready.convert(as_mode).reduce(scale)
    buffer = BytesIO()
    ready.save(buffer, format="PNG")
    return buffer.getvalue()


def _of_png_mode(field: str, image: Image) -> Image:
    """The image itself, or converted to a mode that PNG holds."""
    mode = _SENT_AS.get(image.mode)
    if image.mode == "I":
        low, high = cast("tuple[int, int]", image.getextrema())
        # No more than 255 were probably meant as 8 bits.
        if low >= 0 and (high == 0 or _LARGEST_EIGHT < high <= _LARGEST_SIXTEEN):
            mode = "I;16"
    if mode is None:
        raise invalid(
            field,
            f"expected a PIL image of 8 or 16 bits a channel, got mode {image.mode}: scale its pixels to 0…1 and pass "
            "them as a floating-point array",
        )
    return image if image.mode == mode else image.convert(mode)


def _array(field: str, images: object) -> NDArray[Any]:
    try:
        return np.asarray(images)
    except (ValueError, TypeError, RuntimeError) as error:
        each = cast("Sequence[NDArray[Any]]", images)
        shapes = sorted({image.shape for image in each}) if all(isinstance(image, np.ndarray) for image in each) else []  # pyright: ignore[reportUnnecessaryIsInstance] (from outside)
        if len(shapes) > 1:
            raise invalid(
                field, f"expected images of one size in a request, got shapes {shapes[0]} to {shapes[-1]}: send several"
            ) from error
        # Files among arrays, tensors on a GPU or with a gradient.
        raise invalid(field, f"expected one array, or a list of image files only: {error}") from error


def _pixels(field: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array with an axis of images, if it is one that can be sent."""
    if array.ndim == 2:  # noqa: PLR2004 (H, W): one grey image; the server tells (N, H, W) and (H, W, C) apart
        array = array[np.newaxis]
    if array.ndim not in _BATCH_AXES:
        raise invalid(
            field, f"expected (N, H, W), (N, H, W, C) or one image (H, W) or (H, W, C), got shape {array.shape}"
        )
    if array.dtype.kind == "f" or (array.dtype.kind == "u" and array.dtype.itemsize in _UNSIGNED_BYTES):
        return array
    raise invalid(
        field, f"expected uint8 in 0 to 255, uint16 in 0 to 65,535 or floating point in 0 to 1, got {array.dtype}"
    )
