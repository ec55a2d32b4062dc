"""Image codec (preprocessing): images on the wire (tensors or files) to rows of a graph and back.

`bundle/images/decoder.py` has the rules by which files become pixels.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2, png
from autoencoder.v1.autoencoder_pb2 import DecodeRequest, EncodedImages, Images, Tensor
from autoencoder.v1.shapes import ShapeError, Shapes
from numpy.typing import NDArray

from bundle.errors import ImageFileError
from bundle.images.decoder import ImageReader, Size
from bundle.images.structure import Limits
from server.codec import pixels, tensors
from server.codec.pixels import Range
from server.codec.tensors import Convert
from server.errors import InvalidArgumentError
from server.execution_config import LimitsConfig
from server.types import Array, Buffer

# (H, W, C) each; in one array where they have one size.
ManyImages: TypeAlias = Sequence[Array] | Array
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

    def spend(self, field: str, image: ImageReader, target: Size | None, shapes: Shapes) -> None:
        """Count the pixels of an image about to be decoded, according to its header; `target` if it is resized.

        A model of free sizes says itself how many one image may have.

        Raises:
            InvalidArgumentError: too many, in this image or in all of the request.
            DeadlineError, CancelledError: the call has ended.
        """
        self.check_wanted()
        stored = image.size[0] * image.size[1]
        across, down = image.decoded_size(target)
        decoded = across * down
        if not shapes.free:
            self._check(field, image, stored, decoded, resize=target is not None)
        elif stored > shapes.maximum_pixels:
            _check_size(field, image.size[1], image.size[0], shapes)
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


@dataclass(frozen=True)
class GraphInput:
    """What a graph takes as images."""

    shapes: Shapes
    dtype: np.dtype[Any]
    """uint8, or float32."""
    range: Range
    """Of floats."""


def rows_of_tensor(message: Tensor, field: str, wanted: GraphInput, limit_rows: int) -> tuple[Convert | None, int]:
    """Return how a Tensor's data become rows of a graph, (N, H, W, C) uint8 or float32; and N.

    Shapes are (N, H, W, C), for grey models (N, H, W) too, or (H, W, C) of one image where it cannot be (N, H, W).
    None: unchanged. Otherwise by a call, which raises InvalidArgumentError if values are out of range.

    Raises:
        InvalidArgumentError: another shape, size or type, N = 0 or too large.
    """
    got = tensors.shape_of(message.shape, f"{field}.tensor.shape")
    shape = wanted.shapes.image
    if got[1:] == shape or (shape[2] == 1 and got[1:] == shape[:2]):
        rows = got[0]
    elif got == shape:
        rows = 1
    else:
        raise _wrong_shape(field, got, shape)
    if not 0 < rows <= limit_rows:
        raise _wrong_count(field, rows, limit_rows)
    kind = tensors.check_data(message, f"{field}.tensor")
    if kind == wanted.dtype == np.uint8:
        return None, rows
    return partial(_converted, kind, f"{field}.tensor", wanted), rows


def arrays_of_tensor(message: Tensor, field: str, wanted: GraphInput, limit_rows: int) -> list[Array]:
    """Images of a Tensor, (H, W, C) each in the type of the graph, for models of free sizes.

    Shapes are (N, H, W, C), for grey models (N, H, W) too, or (H, W, C) of one image.

    Raises:
        InvalidArgumentError: another shape, size or type, N = 0 or too large, or values out of range.
    """
    where, channels = f"{field}.tensor", wanted.shapes.image[2]
    got = tensors.shape_of(message.shape, f"{where}.shape")
    if len(got) == 3:  # noqa: PLR2004 (one image, or grey ones)
        got = (1, *got) if got[2] == channels else (*got, 1)
    if len(got) != 4 or got[3] != channels or min(got) < 0:  # noqa: PLR2004 (N, H, W, C)
        grey = "(N, H, W), " if channels == 1 else ""
        expected = f"expected {grey}(N, H, W, {channels}) or one image (H, W, {channels})"
        raise InvalidArgumentError(f"{where}.shape", f"{expected}, got {tensors.shape_text(tuple(message.shape))}")
    if not 0 < got[0] <= limit_rows:
        raise _wrong_count(field, got[0], limit_rows)
    _check_size(f"{where}.shape", got[1], got[2], wanted.shapes)
    kind = tensors.check_data(message, where)
    return [*pixels.convert(np.frombuffer(message.data, kind).reshape(got), where, wanted.dtype, wanted.range)]


def arrays_of_files(
    message: EncodedImages, field: str, wanted: GraphInput, limit_rows: int, budget: PixelBudget
) -> list[Array]:
    """Images of files of one image each, (H, W, C) each in the type of the graph, converted to the model's channels.

    Raises:
        InvalidArgumentError: no file or too many, not an image, too large, or a size that the model does not take.
    """
    rows = len(message.files)
    if not 0 < rows <= limit_rows:
        raise _wrong_count(f"{field}.files", rows, limit_rows)
    # There is no other size to which images of a model of free sizes could be resized.
    resize = message.resize and not wanted.shapes.free
    return [
        _decode(file, f"{field}.files[{index}]", wanted, budget, resize=resize)
        for index, file in enumerate(message.files)
    ]


def fill(message: Images, images: ManyImages, image_format: int) -> None:
    """Write images (H, W, C) in 0 … 1 into an empty message, in the requested format; those in a tensor have one size.

    Files are slow.
    """
    match image_format:
        case autoencoder_pb2.IMAGE_FORMAT_PNG:
            message.encoded.files.extend(_png(pixels.to_bytes(image)) for image in images)
        case autoencoder_pb2.IMAGE_FORMAT_PNG16:
            message.encoded.files.extend(png.encode(pixels.to_words(image)) for image in images)
        case autoencoder_pb2.IMAGE_FORMAT_FLOAT32:
            tensors.fill(message.tensor, np.asarray(images))
        case autoencoder_pb2.IMAGE_FORMAT_UINT16:
            tensors.fill(message.tensor, pixels.to_words(np.asarray(images)))
        case autoencoder_pb2.IMAGE_FORMAT_NONE:
            pass
        case _:
            tensors.fill(message.tensor, pixels.to_bytes(np.asarray(images)))


def crop_of(request: DecodeRequest, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of decoded images of this size that a request asks for.

    Raises:
        InvalidArgumentError: more than there are, or none.
    """
    sizes: list[slice] = []
    for axis, most in (("height", height), ("width", width)):
        size = getattr(request, axis) if request.HasField(axis) else most
        if not 1 <= size <= most:
            raise InvalidArgumentError(axis, f"expected 1 to {most}, which the latents decode to, got {size}")
        sizes.append(slice(size))
    return sizes[0], sizes[1]


FILE_FORMATS = frozenset({autoencoder_pb2.IMAGE_FORMAT_PNG, autoencoder_pb2.IMAGE_FORMAT_PNG16})
# In which images of one response may differ in size.
SIZED_FORMATS = FILE_FORMATS | {autoencoder_pb2.IMAGE_FORMAT_NONE}


def check_format(image_format: int, field: str = "image_format") -> None:
    """Refuse an unknown format."""
    if image_format not in autoencoder_pb2.ImageFormat.values():
        names = ", ".join(autoencoder_pb2.ImageFormat.keys())
        raise InvalidArgumentError(field, f"expected one of {names}, got {image_format}")


def _converted(kind: np.dtype[Any], field: str, wanted: GraphInput, data: bytes) -> Buffer:
    return pixels.convert(np.frombuffer(data, kind), field, wanted.dtype, wanted.range).data


def _decode(file: bytes, field: str, wanted: GraphInput, budget: PixelBudget, *, resize: bool) -> Array:
    height, width, channels = wanted.shapes.image
    target = (width, height) if resize else None
    try:
        image = ImageReader(file, budget.structure, budget.check_wanted)
        budget.spend(field, image, target, wanted.shapes)
        if kind := image.unbounded_compression:
            raise InvalidArgumentError(field, f"expected an image without {kind} compression: save it as PNG")
        if not (resize or wanted.shapes.free) and image.size not in {(width, height), (height, width)}:
            # Rotation cannot make it fit, so its size is checked before it is decoded.
            _check_size(field, image.size[1], image.size[0], wanted.shapes)
        decoded = image.decode(channels, target, keep_sixteen_bits=wanted.dtype != np.uint8).pixels
    except ImageFileError as error:
        raise InvalidArgumentError(field, str(error)) from error
    _check_size(field, decoded.shape[0], decoded.shape[1], wanted.shapes)
    return pixels.convert(decoded, field, wanted.dtype, wanted.range)


def _check_size(field: str, height: int, width: int, shapes: Shapes) -> None:
    try:
        shapes.check_size(height, width)
    except ShapeError as error:
        advice = "" if shapes.free else ": send that size, or set resize"
        raise InvalidArgumentError(field, f"{error}{advice}") from error


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # noqa: PLC0415 (lazily: most answers are no files)

    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _wrong_shape(field: str, got: tuple[int, ...], shape: tuple[int, int, int]) -> InvalidArgumentError:
    height, width, channels = shape
    grey = f"(N, {height}, {width}), " if channels == 1 else ""
    expected = f"{grey}(N, {height}, {width}, {channels}) or one image ({height}, {width}, {channels})"
    return InvalidArgumentError(f"{field}.tensor.shape", f"expected {expected}, got {tensors.shape_text(got)}")


def _wrong_count(field: str, rows: int, limit_rows: int) -> InvalidArgumentError:
    expected = "one image" if limit_rows == 1 else f"1 to {limit_rows} images a request"
    advice = ": send several requests" if rows > limit_rows > 1 else ""
    return InvalidArgumentError(field, f"expected {expected}, got {rows}{advice}")
