"""Image files to pixels (preprocessing): orientation, transparency, colour modes and bit depth, by one set of rules.

Training, server and client read files by these rules, so that a file gives the same pixels everywhere, bit for bit:

- upright, as the EXIF orientation says;
- 16-bit grey divided by 257; other channels of 16 bits by their high byte; 32-bit pixels are refused; where 16 bits are
  asked for, all of them are kept (`sixteen_bits`);
- what is transparent is blended onto black;
- palettes, CMYK, YCbCr and 1 bit are converted to grey or RGB; colour profiles are ignored;
- of an animation, the first frame;
- resizing is Lanczos, after all of these; a JPEG of more than 4,194,304 pixels is decoded for it at 1/2, 1/4 or 1/8 of
  its width and height: the first that has no more pixels than that, but never fewer than the target.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bundle.errors import ImageFileError
from bundle.images import sixteen_bits, structure
from bundle.images.structure import Limits

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Size: TypeAlias = tuple[int, int]

RULES_VERSION = 1
"""Of the rules above; a checkpoint that was trained on image files records it."""
NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
# Never EPS (Ghostscript) or other formats whose decoders start programs or are seldom used.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
# Other compressions cost more than pixels say: a JPEG in a TIFF has scans of its own, Zstandard and LZMA choose their
# memory; and Pillow reads the RLE of BMP in Python.
_BOUNDED_TIFF = frozenset(
    {"raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"}
)
_MODES = {1: "L", 3: "RGB"}
_ORIENTATION = 0x0112
# Orientations from here on swap width and height.
_TURNED = 5
# EXIF in a compressed text chunk of a PNG, as ImageMagick writes it; a rational number has 8 bytes.
_HEX_EXIF = "Raw profile type exif"
_HEX_CHARACTERS_PER_VALUE = 16
_DRAFT_ABOVE_PIXELS = 4_194_304
_DRAFT_SCALES = (2, 4, 8)
_SIXTEEN_BITS = 65_535
_SIXTEEN_TO_EIGHT = 257
_OPAQUE = 255


class Decoded(NamedTuple):
    """(H, W, C) uint8, or uint16, and which rules changed the file's own pixels."""

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    rotated: bool
    transparent: bool
    sixteen_bits: bool


class ImageReader:
    """Reads one image file: the header when it is made, the pixels in `decode`.

    `check_wanted` is called before each piece that is read, and may raise to end the work.

    Raises:
        ImageFileError: not one of the formats, damaged, or of a structure beyond the limits.
    """

    def __init__(self, data: bytes, limits: Limits, check_wanted: Callable[[], None] = lambda: None) -> None:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 (lazily: most callers have no files)

        scans = structure.check(data, limits)
        self._limits = limits
        self._source = _Source(data, scans, check_wanted)
        try:
            self._image = Image.open(self._source, formats=_FORMATS)
        except UnidentifiedImageError:
            raise ImageFileError(f"expected a {NAMES} file, got something else") from None
        except MemoryError:
            raise
        except Exception as error:
            # A decoder of untrusted bytes may raise anything.
            raise self._source.interruption or _unreadable(error) from error
        self.size: Size = self._image.size
        """Width and height as stored, before rotation."""
        self.scans = len(scans)
        """Scans of a JPEG file; 0: another format."""

    @property
    def unbounded_compression(self) -> str:
        """The compression, if pixels do not bound what it costs: TIFF's but for a few, and RLE of BMP; else empty."""
        image = self._image
        if image.tile and image.tile[0][0] == "bmp_rle":
            return "RLE"
        kind = str(image.info.get("compression", "")) if image.format == "TIFF" else ""
        return "" if kind in _BOUNDED_TIFF else kind

    def decoded_size(self, target: Size | None) -> Size:
        """Width and height at which the file will be decoded, before rotation; `target` is as in `decode`."""
        scale = self._draft_scale(target)
        return -(-self.size[0] // scale), -(-self.size[1] // scale)

    def decode(self, channels: int, target: Size | None = None, *, keep_sixteen_bits: bool = False) -> Decoded:
        """(H, W, C), resized to the target (width, height); without one of the upright image's size.

        uint8; uint16 for files of 16 bits a channel if asked for. What is resized has 8, as it had in training.

        Raises:
            ImageFileError: damaged, 32-bit pixels, a planar TIFF of 16-bit colours, or a compressed one where 16 bits
                are to be kept.
        """
        try:
            sixteen_bits.check_planes(self._image)
            deep = (
                sixteen_bits.stored(self._image, self._source.getvalue())
                if keep_sixteen_bits and target is None
                else None
            )
            return self._decode(channels, target) if deep is None else self._keep(deep, channels)
        except (ImageFileError, MemoryError):
            raise
        except Exception as error:
            raise self._source.interruption or _unreadable(error) from error

    def _decode(self, channels: int, target: Size | None) -> Decoded:
        image, deep = self._image, sixteen_bits.is_deep(self._image)
        if (scale := self._draft_scale(target)) > 1:
            image.draft(None, (self.size[0] // scale, self.size[1] // scale))
        # Pillow itself rotates TIFF files as it loads them.
        rotated = image.format == "TIFF" and self._orientation() != 1
        image.load()
        orientation = self._orientation()
        upright = _upright(image, orientation)
        flat, transparent = _flat(upright, image.format)
        # Pillow converts LAB to RGB alone.
        converted = (flat.convert("RGB") if flat.mode == "LAB" else flat).convert(_MODES[channels])
        if target is not None and converted.size != target:
            converted = _resized(converted, target)
        pixels = np.asarray(converted, dtype=np.uint8).reshape(converted.height, converted.width, channels)
        return Decoded(pixels, rotated or orientation != 1, transparent, deep)

    def _keep(self, stored: NDArray[np.uint16], channels: int) -> Decoded:
        """As `_decode`, with 16 bits a channel."""
        orientation = self._orientation()
        pixels = sixteen_bits.convert(_turned(stored, orientation), channels)
        transparent = stored.shape[2] % 2 == 0 and int(stored[:, :, -1].min()) < _SIXTEEN_BITS
        return Decoded(pixels, orientation != 1, transparent, sixteen_bits=True)

    def _draft_scale(self, target: Size | None) -> int:
        """1, 2, 4 or 8: by how much a JPEG is reduced as it is decoded."""
        width, height = self.size
        if target is None or not self.scans or width * height <= _DRAFT_ABOVE_PIXELS:
            return 1
        across, down = target if self._orientation() < _TURNED else target[::-1]
        chosen = 1
        for scale in _DRAFT_SCALES:
            if width // scale < across or height // scale < down:
                break
            chosen = scale
            if width * height <= _DRAFT_ABOVE_PIXELS * scale**2:
                break
        return chosen

    def _orientation(self) -> int:
        """1 to 8; 1 if the file does not say, or its EXIF cannot be read."""
        info = self._image.info
        if exif := info.get("exif"):
            structure.check_exif(exif, self._limits)
        if len(info.get(_HEX_EXIF, "")) > _HEX_CHARACTERS_PER_VALUE * self._limits.max_parts:
            raise ImageFileError(f"expected less EXIF, got {len(info[_HEX_EXIF])} characters: remove it from the file")
        try:
            orientation = self._image.getexif().get(_ORIENTATION, 1)
        except Exception:
            # Pillow may raise anything on damaged EXIF.
            if self._source.interruption is not None:
                raise
            return 1
        return orientation if orientation in range(1, 9) else 1


class _Source(io.BytesIO):
    """Bytes of a file, read in pieces that hold at most one scan, so that work ends soon after the call has."""

    def __init__(self, data: bytes, scans: list[int], check_wanted: Callable[[], None]) -> None:
        super().__init__(data)
        self.interruption: Exception | None = None
        self._check_wanted = check_wanted
        self._next_scans = scans[1:]

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, and none of the next scan."""
        try:
            self._check_wanted()
        except Exception as error:
            self.interruption = error
            raise
        if self._next_scans and size is not None and size > 0:
            start = self.tell()
            while self._next_scans and self._next_scans[0] <= start:
                del self._next_scans[0]
            if self._next_scans:
                size = min(size, self._next_scans[0] - start)
        return super().read(size)


def _unreadable(error: Exception) -> ImageFileError:
    return ImageFileError(f"expected a readable {NAMES} file: {error}")


def _turned(pixels: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """(H, W, C) as `_upright` turns images."""
    if orientation >= _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels


def _upright(image: "PillowImage", orientation: int) -> "PillowImage":
    if orientation == 1:
        return image
    from PIL.Image import Transpose  # noqa: PLC0415 (as above)

    methods = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(methods[orientation])


def _resized(image: "PillowImage", target: Size) -> "PillowImage":
    from PIL.Image import Resampling  # noqa: PLC0415 (as above)

    return image.resize(target, Resampling.LANCZOS)


def _flat(image: "PillowImage", kind: str | None) -> tuple["PillowImage", bool]:
    """Reduce to 8 bits a channel, with transparency blended onto black; and whether there was any."""
    if image.mode == "F" or (image.mode == "I" and kind == "TIFF"):
        raise ImageFileError("expected pixels of 8 or 16 bits, got 32, whose range is unknown: convert the file")
    if not image.mode.startswith("I") and not image.has_transparency_data:
        return image, False
    from PIL import Image  # noqa: PLC0415 (as above)

    if image.mode.startswith("I"):
        # Pillow itself would clip at 255.
        sixteen = np.asarray(image, dtype=np.float64)
        return Image.fromarray(np.rint(np.clip(sixteen, 0, _SIXTEEN_BITS) / _SIXTEEN_TO_EIGHT).astype(np.uint8)), False
    layered = image.convert("RGBA")
    least_alpha, _ = layered.getchannel("A").getextrema()
    return Image.alpha_composite(Image.new("RGBA", layered.size, (0, 0, 0, 255)), layered), least_alpha != _OPAQUE
