"""Image files of every kind that training, server and client read: formats, modes, depths, orientations, animations."""

import io

import numpy as np
from PIL import Image, TiffImagePlugin

ORIENTATION = 0x0112


def kinds(height: int, width: int) -> dict[str, bytes]:
    """Files by name, suffix included, of (height, width) pixels once they are upright."""
    rows, columns = np.mgrid[0:height, 0:width]
    draws = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    colours = np.stack([rows * 5, columns * 4, (rows * columns) % 190], -1) % 190 + draws
    colour = Image.fromarray(colours.astype(np.uint8))
    alpha = Image.fromarray(((columns * 9 + rows * 3) % 256).astype(np.uint8))
    deep = Image.fromarray((rows * 1999 + columns * 31).astype(np.uint16))
    return {
        **_modes(colour, alpha, deep),
        **_oriented(colour),
        **_animated(colour, alpha),
        **_compressed(colour, deep),
    }


def _modes(colour: Image.Image, alpha: Image.Image, deep: Image.Image) -> dict[str, bytes]:
    grey = colour.convert("L")
    layered = colour.copy()
    layered.putalpha(alpha)
    palette = colour.quantize(64)
    grey_alpha = Image.merge("LA", (grey, alpha))
    first = colour.getpixel((3, 4))
    cmyk = colour.convert("CMYK")
    return {
        "rgb.png": saved(colour, "PNG"),
        "grey.png": saved(grey, "PNG"),
        "rgba.png": saved(layered, "PNG"),
        "la.png": saved(grey_alpha, "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette-trns.png": saved(palette, "PNG", transparency=5),
        "palette-alphas.png": saved(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "rgb-trns.png": saved(colour, "PNG", transparency=first),
        "grey-trns.png": saved(grey, "PNG", transparency=grey.getpixel((3, 4))),
        "1-bit.png": saved(colour.convert("1"), "PNG"),
        "16-bit.png": saved(deep, "PNG"),
        "rgb.jpg": saved(colour, "JPEG"),
        "grey.jpg": saved(grey, "JPEG"),
        "progressive.jpg": saved(colour, "JPEG", progressive=True),
        "cmyk.jpg": saved(cmyk, "JPEG"),
        "progressive-cmyk.jpg": saved(cmyk, "JPEG", progressive=True),
        "rgb.webp": saved(colour, "WEBP"),
        "rgba.webp": saved(layered, "WEBP"),
        "lossless-rgba.webp": saved(layered, "WEBP", lossless=True),
        "rgb.bmp": saved(colour, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "rgba.bmp": saved(layered, "BMP"),
        "palette.gif": saved(palette, "GIF"),
        "palette-trns.gif": saved(palette, "GIF", transparency=5),
        "grey.gif": saved(grey, "GIF"),
        "rgb.tiff": saved(colour, "TIFF"),
        "rgba.tiff": saved(layered, "TIFF"),
        "cmyk.tiff": saved(cmyk, "TIFF"),
        "ycbcr.jpg": saved(colour.convert("YCbCr"), "JPEG"),
    }


def _oriented(colour: Image.Image) -> dict[str, bytes]:
    """JPEG files of each EXIF orientation; other formats of the one that phones write most."""
    files = {f"exif-{value}.jpg": saved(stored(colour, value), "JPEG", exif=exif(value)) for value in range(1, 9)}
    for suffix, kind in (("png", "PNG"), ("webp", "WEBP"), ("tiff", "TIFF")):
        files[f"exif-6.{suffix}"] = saved(stored(colour, 6), kind, exif=exif(6))
    return files


def _animated(colour: Image.Image, alpha: Image.Image) -> dict[str, bytes]:
    layered = colour.copy()
    layered.putalpha(alpha)
    frames = {"save_all": True, "append_images": [Image.new("RGB", colour.size, "red")], "duration": 100}
    return {
        "animated.gif": saved(colour.quantize(64), "GIF", **frames),
        "animated.webp": saved(layered, "WEBP", **frames),
        "animated.png": saved(layered, "PNG", **frames),
        "pages.tiff": saved(colour, "TIFF", **frames),
    }


def _compressed(colour: Image.Image, deep: Image.Image) -> dict[str, bytes]:
    files = {
        f"{kind}.tiff": saved(colour, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_deflate", "packbits")
    }
    return {
        **files,
        "group4.tif": saved(colour.convert("1"), "TIFF", compression="group4"),
        "16-bit.tiff": saved(deep, "TIFF"),
        "16-bit-lzw.tiff": saved(deep, "TIFF", compression="tiff_lzw"),
        "interlaced.gif": saved(colour.quantize(64), "GIF", interlace=True),
    }


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The pixels that a file of this orientation stores to be shown as `upright`."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    return upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    tags[TiffImagePlugin.SOFTWARE] = "test"
    return tags


def saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    """The file of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()
