"""Image files that are decoded here because they are too large for one request: by the rules of the server."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

from autoencoder.v1 import png
from autoencoder.v1.shapes import Size
from numpy.typing import NDArray

from hourglass_client.errors import invalid

_EXTRA = "pip install './client[images]' in a checkout"
_MAX_SCANS = 1024
_MAX_PARTS = 2**20
_ORIENTATION = 0x0112
# EXIF orientations from here on swap height and width.
_TURNED = 5
_EXIF_OF_PNG = (b"eXIf", b"Raw profile type")
_SIXTEEN = 16
_pillow_limit = threading.Lock()


class FileFacts(NamedTuple):
    """What the header of an image file says."""

    size: Size
    """Height and width, upright."""
    sixteen_bits: bool


def facts(file: bytes) -> FileFacts | None:
    """The facts of an image file; None where they cannot be had: no image, or Pillow is missing."""
    if (header := png.header(file)) is not None and not any(words in file for words in _EXIF_OF_PNG):
        return FileFacts((header.height, header.width), header.bits == _SIXTEEN)
    try:
        from PIL import Image  # noqa: PLC0415 (an optional extra)
    except ImportError:
        return None
    try:
        with _any_size(), Image.open(BytesIO(file)) as image:
            # Of a TIFF, Pillow gives the upright size itself.
            turned = image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) >= _TURNED
            width, height = image.size[::-1] if turned else image.size
            return FileFacts((height, width), ";16" in image.mode or ";16" in str(image.tile))
    except Exception:  # noqa: BLE001 (a decoder may raise anything; the server says what is wrong with the file)
        return None


def profile(file: bytes) -> bytes:
    """The ICC profile of an image file, which says what its colours are; empty where there is none, or no Pillow."""
    try:
        from PIL import Image  # noqa: PLC0415 (an optional extra)

        with _any_size(), Image.open(BytesIO(file)) as image:
            return image.info.get("icc_profile") or b""
    except Exception:  # noqa: BLE001 (as above; the file itself is fine)
        return b""


def decode(field: str, file: bytes, channels: int, *, keep_sixteen_bits: bool) -> NDArray[Any]:
    """(H, W, C) uint8, or uint16 of a file of 16 bits where they are to be kept.

    Raises:
        InvalidArgumentError: Pillow is missing, or the file is damaged.
    """
    from bundle.errors import ImageFileError  # noqa: PLC0415 (as above)
    from bundle.images.decoder import ImageReader  # noqa: PLC0415
    from bundle.images.structure import Limits  # noqa: PLC0415

    try:
        with _any_size():
            reader = ImageReader(file, Limits(_MAX_SCANS, _MAX_PARTS))
            return reader.decode(channels, keep_sixteen_bits=keep_sixteen_bits).pixels
    except ImportError as missing:
        raise invalid(field, f"expected Pillow, to split so large a file: {_EXTRA}, or pass an array") from missing
    except ImageFileError as error:
        raise invalid(field, str(error)) from error


@contextmanager
def _any_size() -> Generator[None]:
    """Without Pillow's own limit, which is meant for files of others."""
    from PIL import Image  # noqa: PLC0415 (as above)

    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
