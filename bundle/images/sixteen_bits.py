"""Pixels of 16 bits a channel, of which Pillow keeps 16 in grey images alone.

PNG files are read by libspng, TIFF files where their pixels are stored as they are.
"""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ImageFileError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# ITU-R BT.601, as Pillow converts colours to grey.
_LUMA = np.array([0.299, 0.587, 0.114])
_CHANNELS = {"RGB": 3, "RGBA": 4}
# By Pillow's name of how TIFF files store pixels; where alpha has been multiplied in, RGBa, it is missing.
_SAMPLES = {"RGB": 3, "RGBA": 4, "RGBX": 4}
_WORD = 65_535
_ALPHA = {2, 4}
_BYTE_BITS = 8
# TIFF 6.0, section 8; in a planar file each colour has a plane of its own.
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284
_PLANAR = 2


def check_planes(image: "ImageFile") -> None:
    """Refuse TIFF files of 16-bit colours in planes without compression, of which Pillow reads bytes as pixels.

    Raises:
        ImageFileError: it is one.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if not image.tile or image.tile[0].codec_name != "raw" or tags.get(_PLANAR_CONFIGURATION) != _PLANAR:
        return
    if image.mode in _CHANNELS and max(tags.get(_BITS_PER_SAMPLE, (1,))) > _BYTE_BITS:
        raise ImageFileError("expected 16-bit colours of a pixel side by side, got a planar TIFF: save it as PNG")


def is_deep(image: "ImageFile") -> bool:
    """Whether a file stores 16 bits a channel; asked before its pixels are loaded."""
    return image.mode.startswith("I") or (bool(image.tile) and ";16" in _raw_mode(image))


def stored(image: "ImageFile", data: bytes) -> NDArray[np.uint16] | None:
    """(H, W, C) as stored: grey, grey and alpha, RGB or RGBA; None for a file of 8 bits.

    Raises:
        ImageFileError: damaged, or 16-bit colours in a TIFF that is compressed.
    """
    if image.mode.startswith("I;16"):
        image.load()
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if not image.tile or ";16" not in _raw_mode(image):
        return None
    return _png(data, image) if image.format == "PNG" else _tiff(data, image)


def convert(pixels: NDArray[np.uint16], channels: int) -> NDArray[np.uint16]:
    """(H, W, 1 to 4) to (H, W, `channels`), grey or RGB; what is transparent is blended onto black."""
    colours = pixels
    if pixels.shape[2] in _ALPHA:
        opacity = pixels[:, :, -1:].astype(np.float64) / _WORD
        colours = _rounded(pixels[:, :, :-1] * opacity)
    if colours.shape[2] == channels:
        return colours
    if channels == 1:
        return _rounded(colours @ _LUMA)[:, :, None]
    return np.repeat(colours, channels, axis=2)


def _raw_mode(image: "ImageFile") -> str:
    """Pillow's name of how pixels are stored, such as RGB;16B."""
    arguments: Any = image.tile[0].args
    return str(arguments if isinstance(arguments, str) else arguments[0])


def _png(data: bytes, image: "ImageFile") -> NDArray[np.uint16]:
    try:
        import pyspng  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs] (it has none)
    except ImportError as error:
        raise ImageFileError(
            "16-bit colours need the package pyspng-seunglab, which is missing: save as 8 bits"
        ) from error
    try:
        pixels = cast("NDArray[np.uint16]", cast("Any", pyspng).load(data))
    except Exception as error:
        raise ImageFileError(f"expected a readable PNG file: {error}") from error
    if pixels.dtype != np.uint16 or pixels.shape[1::-1] != image.size:
        raise ImageFileError(f"expected a PNG file of 16 bits, got {pixels.dtype}")
    return pixels


def _tiff(data: bytes, image: "ImageFile") -> NDArray[np.uint16]:
    raw_mode, channels = _raw_mode(image), _CHANNELS.get(image.mode, 0)
    samples = _SAMPLES.get(raw_mode.partition(";")[0], 0)
    if any(tile.codec_name != "raw" for tile in image.tile) or not (channels and samples) or raw_mode[-1] not in "LBN":
        raise ImageFileError("expected a TIFF file of 16-bit colours without compression: save it so, or as PNG")
    dtype = np.dtype(">u2" if raw_mode.endswith("B") else "<u2")
    pixel_bytes = samples * dtype.itemsize
    pixels = np.zeros((image.height, image.width, channels), np.uint16)
    for tile in image.tile:
        left, top, right, bottom = tile.extents or (0, 0, *image.size)
        shape = (bottom - top, right - left, samples)
        # Tiles have one size: those at the right and at the bottom reach beyond the image.
        line_bytes = _line_bytes(tile.args) or shape[1] * pixel_bytes
        if len(data) < tile.offset + line_bytes * (shape[0] - 1) + shape[1] * pixel_bytes:
            raise ImageFileError("expected a readable TIFF file: it is truncated")
        stored = np.ndarray(shape, dtype, data, tile.offset, (line_bytes, pixel_bytes, dtype.itemsize))
        pixels[top:bottom, left:right] = stored[:, :, :channels]
    return pixels


def _line_bytes(arguments: Any) -> int:  # noqa: ANN401 (Pillow's, which differ by codec)
    """Bytes from one line of a raw tile to the next; 0 where the lines follow each other."""
    return 0 if isinstance(arguments, str) else int(arguments[1])


def _rounded(pixels: NDArray[Any]) -> NDArray[np.uint16]:
    return np.rint(np.clip(pixels, 0, _WORD)).astype(np.uint16)
