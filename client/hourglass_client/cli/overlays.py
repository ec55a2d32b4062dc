"""Pictures for people to look at: heat maps with boxes over the images (anomaly maps), and before beside after."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from autoencoder.v1.shapes import Size
from numpy.typing import NDArray

from hourglass_client.answers import Region
from hourglass_client.bands import files
from hourglass_client.cli.inputs import ImageBatch, UsageError
from hourglass_client.errors import InvalidArgumentError

Picture = NDArray[np.uint8]
# Smaller pictures are enlarged to about this many pixels, by a whole factor.
_SMALLEST_SIDE = 384
# One pixel of the line around a region for so many of the longer side.
_PIXELS_A_LINE = 400
# Colour and opacity by the map's value: nothing is drawn on what is normal, 128 is the threshold.
_STOPS = (64, 128, 160, 255)
_COLOURS = ((255, 225, 0), (255, 225, 0), (255, 120, 0), (220, 0, 0))
_OPACITIES = (0, 96, 128, 176)
_BOX = (0, 225, 255)
_BOX_EDGE = (0, 0, 0)
_LINES = 256
_OPAQUE = 255
_SIXTEEN_TO_EIGHT = 257


def check_drawable(batches: Sequence[ImageBatch]) -> None:
    """Refuse files that cannot be read a second time, to be drawn, and all of them without Pillow.

    Raises:
        UsageError: one of these.
    """
    given = [path for batch in batches if batch.array is None for path in batch.images]
    if given and find_spec("PIL") is None:
        cure = "pip install './client[images]' in a checkout"
        raise UsageError(f"expected Pillow, to draw pictures of image files: {cure}")
    for path in given:
        if not Path(path).is_file():
            raise UsageError(f"{path}: expected a regular file, which is read again to draw it")


def picture(batch: ImageBatch, index: int, size: Size) -> Picture:
    """(H, W, 3): an image of a batch as it was sent; files are resized where the model's answer has another size.

    Raises:
        UsageError: the file has become unreadable.
    """
    item: Any = batch.images[index]
    if batch.array is not None:
        return _of_array(np.asarray(item))
    try:
        pixels = files.decode("images", item.read_bytes(), 3, keep_sixteen_bits=False)
    except (InvalidArgumentError, OSError) as error:
        raise UsageError(f"{item}: {error}") from error
    return pixels if pixels.shape[:2] == size else _resized(pixels, size)


def overlay(image: Picture, heat: Picture, regions: Sequence[Region]) -> Picture:
    """(H, W, 3) and its map (H, W), 128 where it reaches the threshold, to a picture of both, enlarged if small."""
    scale = max(1, _SMALLEST_SIDE // max(heat.shape))
    colours = np.stack([np.interp(np.arange(256), _STOPS, channel) for channel in zip(*_COLOURS, strict=True)], 1)
    opacities = np.interp(np.arange(256), _STOPS, _OPACITIES)[:, None] * (np.arange(256) > _STOPS[0])[:, None]
    added, kept = (colours * opacities).astype(np.uint16), (_OPAQUE - opacities).astype(np.uint16)
    drawn = np.empty((scale * heat.shape[0], scale * heat.shape[1], 3), np.uint8)
    for first in range(0, heat.shape[0], _LINES):
        lines = slice(first, first + _LINES)
        mixed = (image[lines] * kept[heat[lines]] + added[heat[lines]]) // _OPAQUE
        drawn[scale * first : scale * (first + _LINES)] = mixed.repeat(scale, 0).repeat(scale, 1)
    line = max(1, round(max(drawn.shape) / _PIXELS_A_LINE))
    for region in reversed(regions):
        _draw_box(drawn, region, scale, line)
    return drawn


def beside(batch: ImageBatch, index: int, after: bytes) -> Picture:
    """(H, 2W, 3): an image of a batch, and beside it what a PNG file made of it.

    Raises:
        UsageError: the file has become unreadable.
    """
    clean = files.decode("images", after, 3, keep_sixteen_bits=False)
    return np.concatenate([picture(batch, index, clean.shape[:2]), clean], axis=1)


def _draw_box(drawn: Picture, region: Region, scale: int, line: int) -> None:
    """A frame around a region, cut off at the picture's edge, with a dark line on both sides."""
    for grown, inner, colour in ((2 * line + 1, 0, _BOX_EDGE), (2 * line, line, _BOX)):
        for rows, columns in _sides(region, scale, grown, inner):
            drawn[rows, columns] = colour


def _sides(region: Region, scale: int, outer: int, inner: int) -> Iterator[tuple[slice, slice]]:
    """The four sides of a frame that reaches from `inner` to `outer` pixels outside a region."""
    top, left = scale * region.top, scale * region.left
    bottom, right = top + scale * region.height, left + scale * region.width
    rows, columns = (slice(max(0, low - outer), high + outer) for low, high in ((top, bottom), (left, right)))
    yield slice(max(0, top - outer), max(0, top - inner)), columns
    yield slice(bottom + inner, bottom + outer), columns
    yield rows, slice(max(0, left - outer), max(0, left - inner))
    yield rows, slice(right + inner, right + outer)


def _of_array(pixels: NDArray[Any]) -> Picture:
    """(H, W) or (H, W, C) of any accepted type to (H, W, 3)."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(np.clip(pixels, 0, 1).astype(np.float32) * _OPAQUE)
    elif pixels.dtype.itemsize > 1:
        pixels = np.rint(pixels / _SIXTEEN_TO_EIGHT)
    grey = pixels[..., None] if pixels.ndim == 2 else pixels  # noqa: PLR2004 (H, W)
    return np.broadcast_to(grey.astype(np.uint8), (*grey.shape[:2], 3))


def _resized(pixels: Picture, size: Size) -> Picture:
    from PIL import Image  # noqa: PLC0415 (an optional extra)

    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS))
