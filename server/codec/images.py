"""Image codec (preprocessing): images on the wire (tensors or files) to rows of a graph and back.

`bundle/images/decoder.py` has the rules by which files become pixels.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2
from autoencoder.v1.autoencoder_pb2 import EncodedImages, Images, Tensor
from numpy.typing import NDArray

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader, Size
from bundle.images.structure import Limits
from server.codec import tensors
from server.codec.tensors import Convert
from server.errors import InvalidArgumentError
from server.execution_config import LimitsConfig
from server.types import Buffer

Shape: TypeAlias = tuple[int, int, int]
# A JPEG of several scans is held as coefficients of 6 bytes a pixel until the last one.
_FEWER_PIXELS_OF_SEVERAL_SCANS = 3
# What a pixel costs that is decoded at a reduced scale, against one that is decoded and resized (0.007 and 0.025 µs).
_CHEAPER_AT_A_REDUCED_SCALE = 4


class PixelBudget:
    """Limits the pixels decoded for one request; `check_wanted` raises once its call has ended."""

    def __init__(self, limits: LimitsConfig, check_wanted: Callable[[], None]) -> None:
        self.check_wanted = check_wanted
        self.structure = Limits(limits.max_image_scans, limits.max_image_parts)
        self._limits = limits
        self._spent = 0

    def spend(self, field: str, image: ImageReader, target: Size | None) -> None:
        """Count the pixels of an image about to be decoded, according to its header; `target` if it is resized.

        Raises:
            InvalidArgumentError: too many, in this image or in all of the request.
            DeadlineError, CancelledError: the call has ended.
        """
        self.check_wanted()
        stored = image.size[0] * image.size[1]
        across, down = image.decoded_size(target)
        decoded = across * down
        self._check(field, image, stored, decoded, resize=target is not None)
        self._spent += max(decoded, stored // _CHEAPER_AT_A_REDUCED_SCALE)
        if self._spent > self._limits.max_request_pixels:
            raise InvalidArgumentError(
                field,
                f"expected at most {self._limits.max_request_pixels} pixels in the images of a request, got more "
                "up to this one: send several requests, or smaller images",
            )

    def _check(self, field: str, image: ImageReader, stored: int, decoded: int, *, resize: bool) -> None:
        limits = self._limits
        most_resized = limits.max_resized_pixels // (_FEWER_PIXELS_OF_SEVERAL_SCANS if image.scans > 1 else 1)
        if decoded > limits.max_image_pixels:
            resizable = not resize and image.scans and stored <= most_resized
            advice = f"set resize (this file may then have {most_resized} pixels), " if resizable else ""
            most, flag = f"{limits.max_image_pixels} pixels", "--max-image-pixels"
        elif decoded < stored > most_resized:
            most, flag, advice = f"{most_resized} pixels", "--max-resized-pixels", ""
        elif resize and max(image.size) > limits.max_image_side:
            most, flag, advice = f"{limits.max_image_side} pixels a side", "--max-image-side", ""
        else:
            return
        advice += f"send a smaller image, or start the server with a higher {flag}"
        width, height = image.size
        raise InvalidArgumentError(field, f"expected at most {most}, got {height} x {width} (height x width): {advice}")


def rows_of_tensor(
    message: Tensor, field: str, shape: Shape, dtype: np.dtype[Any], limit_rows: int
) -> tuple[Convert | None, int]:
    """Return how a Tensor's data become rows of a graph that takes (N, H, W, C) uint8, or float32 in 0 … 1; and N.

    Shapes are (N, H, W, C), for grey models (N, H, W) too, or (H, W, C) of one image where it cannot be (N, H, W).
    None: unchanged. Otherwise by a call, which raises InvalidArgumentError if values are out of range.

    Raises:
        InvalidArgumentError: another shape, size or type, N = 0 or too large.
    """
    got = tensors.shape_of(message.shape, f"{field}.tensor.shape")
    if got[1:] == shape or (shape[2] == 1 and got[1:] == shape[:2]):
        rows = got[0]
    elif got == shape:
        rows = 1
    else:
        raise _wrong_shape(field, got, shape)
    if not 0 < rows <= limit_rows:
        raise _wrong_count(field, rows, limit_rows)
    kind = tensors.check_data(message, f"{field}.tensor")
    if kind == dtype == np.uint8:
        return None, rows
    return partial(_converted, kind, f"{field}.tensor", dtype), rows


def rows_of_files(
    message: EncodedImages, field: str, shape: Shape, dtype: np.dtype[Any], limit_rows: int, pixels: PixelBudget
) -> tuple[Buffer, int]:
    """Rows for a graph, from files of one image each, converted to the model's channels: a buffer and N.

    Raises:
        InvalidArgumentError: no file or too many, not an image, too large, or another size without `resize`.
    """
    rows = len(message.files)
    if not 0 < rows <= limit_rows:
        raise _wrong_count(f"{field}.files", rows, limit_rows)
    decoded = [
        _decode(file, f"{field}.files[{index}]", shape, pixels, resize=message.resize)
        for index, file in enumerate(message.files)
    ]
    return _convert(np.stack(decoded), field, dtype).data, rows


def fill(message: Images, images: NDArray[np.float32], image_format: int) -> None:
    """Write (N, H, W, C) in 0 … 1 into an empty message, in the requested format; PNG is slow."""
    if image_format == autoencoder_pb2.IMAGE_FORMAT_FLOAT32:
        tensors.fill(message.tensor, images)
    elif image_format == autoencoder_pb2.IMAGE_FORMAT_PNG:
        message.encoded.files.extend(_png(image) for image in to_bytes(images))
    elif image_format != autoencoder_pb2.IMAGE_FORMAT_NONE:
        tensors.fill(message.tensor, to_bytes(images))


def check_format(image_format: int) -> None:
    """Refuse an unknown format."""
    if image_format not in autoencoder_pb2.ImageFormat.values():
        names = ", ".join(autoencoder_pb2.ImageFormat.keys())
        raise InvalidArgumentError("image_format", f"expected one of {names}, got {image_format}")


def check_unit_range(images: NDArray[Any], field: str) -> None:
    """Refuse floats outside 0 … 1."""
    low, high = float(images.min()), float(images.max())
    # NaN makes both comparisons false.
    if not (low >= 0.0 and high <= 1.0):
        tensors.check_finite(images, field)
        raise InvalidArgumentError(f"{field}.data", f"expected floats from 0 to 1, got {low:g} to {high:g}")


def to_bytes(images: NDArray[Any]) -> NDArray[np.uint8]:
    """0 … 1 to the nearest of 0 … 255."""
    return np.rint(np.clip(images, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)


def _converted(kind: np.dtype[Any], field: str, dtype: np.dtype[Any], data: bytes) -> Buffer:
    return _convert(np.frombuffer(data, kind), field, dtype).data


def _convert(images: NDArray[Any], field: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    if images.dtype == np.uint8:
        return images if dtype == np.uint8 else images.astype(np.float32) / np.float32(255.0)
    check_unit_range(images, field)
    return to_bytes(images.astype(np.float32)) if dtype == np.uint8 else images.astype(np.float32, copy=False)


def _decode(file: bytes, field: str, shape: Shape, pixels: PixelBudget, *, resize: bool) -> NDArray[np.uint8]:
    height, width, channels = shape
    target = (width, height) if resize else None
    try:
        image = ImageReader(file, pixels.structure, pixels.check_wanted)
        pixels.spend(field, image, target)
        if kind := image.unbounded_compression:
            raise InvalidArgumentError(field, f"expected an image without {kind} compression: save it as PNG")
        if image.size != (height, width):
            # Rotation cannot make it fit, so its size is checked before it is decoded.
            _check_size(field, image.size, (width, height), resize=resize)
        decoded = image.decode(channels, target).pixels
    except ImageFileError as error:
        raise InvalidArgumentError(field, str(error)) from error
    _check_size(field, decoded.shape[1::-1], (width, height), resize=resize)
    return decoded


def _check_size(field: str, got: tuple[int, int], expected: tuple[int, int], *, resize: bool) -> None:
    """Refuse a (width, height) other than the expected one, unless the image is to be resized."""
    if got != expected and not resize:
        raise InvalidArgumentError(
            field,
            f"expected {expected[0]} x {expected[1]} pixels, got {got[0]} x {got[1]}: send that size, or set resize",
        )


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # noqa: PLC0415 (as above)

    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _wrong_shape(field: str, got: tuple[int, ...], shape: Shape) -> InvalidArgumentError:
    height, width, channels = shape
    grey = f"(N, {height}, {width}), " if channels == 1 else ""
    expected = f"{grey}(N, {height}, {width}, {channels}) or one image ({height}, {width}, {channels})"
    return InvalidArgumentError(f"{field}.tensor.shape", f"expected {expected}, got {tensors.shape_text(got)}")


def _wrong_count(field: str, rows: int, limit_rows: int) -> InvalidArgumentError:
    expected = "one image" if limit_rows == 1 else f"1 to {limit_rows} images a request"
    advice = ": send several requests" if rows > limit_rows > 1 else ""
    return InvalidArgumentError(field, f"expected {expected}, got {rows}{advice}")
