"""Synthetic defects on scikit-image's textures: a generator of normal images and of defective ones with their masks.

Image `number` of a stream depends on (seed, stream, texture, number) alone, so that any of them can be drawn again.
A camera looks at a random part of a texture, a third of which no training image shows; its gain and its sensor differ
a little from image to image. A defect changes the pixels of its mask by at least `CONTRAST`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.data.defects.inspection import Inspection
from training.data.split import Split
from training.errors import DataError

TEXTURES = ("brick", "grass", "gravel")
SIDE = 128
"""Of an image, in pixels."""
CONTRAST = 0.8
"""Root mean square of what a defect changes in its mask, at least, in standard deviations of the texture."""
# Columns of a texture up to here are for training, the others for calibration and test.
_TRAINED_COLUMNS = 320
# Standard deviations of the camera's gain, and of its noise in pixel values 0 to 1.
_GAIN_SPREAD, _NOISE = 0.02, 0.01
_INSIDE = 0.3
_TRIES = 1_000


class Stream(IntEnum):
    """Images of different streams are independent."""

    TRAIN = 0
    CALIBRATION = 1
    TEST = 2
    DEFECTS = 3
    FRESH = 4


@dataclass(frozen=True)
class Defective:
    """An image uint8 (H, W, 1), the mask (H, W) of its defect, and the kind of it."""

    image: np.ndarray
    mask: np.ndarray
    kind: str


def normals(texture: str, stream: Stream, first: int, count: int, seed: int = 0, gain: float = 1.0) -> np.ndarray:
    """Normal images uint8 (count, H, W, 1), those from number `first` on; `gain` is that of a camera that has moved."""
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for row in range(count):
        source = _source(texture, stream, first + row, seed)
        images[row, ..., 0] = _exposed(_part(texture, source, trained=stream == Stream.TRAIN), source, gain)
    return images


def defective(texture: str, number: int, seed: int = 0) -> Defective:
    """One defect somewhere in a part of the texture that no training image shows; its kind goes by the number."""
    source = _source(texture, Stream.DEFECTS, number, seed)
    kind = KINDS[number % len(KINDS)]
    spread = float(_texture(texture).std())
    for _ in range(_TRIES):
        part = _part(texture, source, trained=False)
        weights, changed = _MAKERS[kind](texture, part, spread, source)
        mask, difference = weights > _INSIDE, weights * (changed - part)
        if np.sqrt(np.square(difference[mask]).mean()) >= CONTRAST * spread:
            return Defective(_exposed(part + difference, source)[..., np.newaxis], mask, kind)
    raise AssertionError(f"no visible defect of kind {kind} in {_TRIES} tries")


def splits(texture: str) -> tuple[tuple[Split, Split, Split], Inspection]:
    """Normal images for training, calibration and test, and what detection is judged by.

    Raises:
        DataError: there is no such texture.
    """
    if texture not in TEXTURES:
        raise DataError(f"data.normal: expected one of {', '.join(TEXTURES)} for --data textures, got {texture!r}")
    train, calibration, test = (
        normals(texture, stream, 0, count)
        for stream, count in ((Stream.TRAIN, 200), (Stream.CALIBRATION, 1_000), (Stream.TEST, 100))
    )
    planted = [defective(texture, number) for number in range(200)]
    images = np.concatenate([test, np.stack([each.image for each in planted])])
    masks = np.concatenate([np.zeros(test.shape[:3], bool), np.stack([each.mask for each in planted])])
    kinds = (*("good" for _ in test), *(each.kind for each in planted))
    defects = np.arange(len(images)) >= len(test)
    # The loss of each epoch is taken from a few of the calibration images: nothing is chosen by it.
    normal = tuple(Split(each, None, np.arange(len(each))) for each in (train, calibration[:25], test))
    return (normal[0], normal[1], normal[2]), Inspection(calibration, images, defects, kinds, masks)


def _foreign(texture: str, part: np.ndarray, _: float, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Another texture of the same mean and spread as the place that it covers."""
    weights = _blob(source)
    others = [each for each in TEXTURES if each != texture]
    other = _part(others[int(source.integers(len(others)))], source, trained=False)
    (mean, spread), (other_mean, other_spread) = (_moments(each, weights) for each in (part, other))
    return weights, mean + (other - other_mean) * min(spread / max(other_spread, 1e-3), 2.0)


def _blur(_: str, part: np.ndarray, __: float, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The place itself, out of focus."""
    return _blob(source), gaussian_filter(part, source.uniform(2, 4))


def _stain(_: str, part: np.ndarray, spread: float, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The place itself, darker or lighter."""
    return _blob(source), part + source.choice((-1, 1)) * np.float32(source.uniform(1.6, 2.2) * spread)


def _scratch(_: str, part: np.ndarray, spread: float, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A thin curve, darker or lighter than the place."""
    return _curve(source), part + source.choice((-1, 1)) * np.float32(source.uniform(2.5, 3.2) * spread)


_Maker: TypeAlias = Callable[[str, np.ndarray, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Of a texture, a part of it, its spread and a source to weights (H, W) in 0 to 1 and what is there in place of it."""
_MAKERS: dict[str, _Maker] = {"foreign": _foreign, "blur": _blur, "scratch": _scratch, "stain": _stain}
KINDS = tuple(_MAKERS)


@cache
def _texture(name: str) -> np.ndarray:
    """(H, W) in 0 to 1.

    Raises:
        DataError: scikit-image is not installed, or came without it.
    """
    # Importing scikit-image would take longer than reading a picture of it.
    spec = find_spec("skimage")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "data" / f"{name}.png"
        if path.is_file():
            return np.asarray(Image.open(path).convert("L"), np.float32) / np.float32(255)
    raise DataError(f"--data textures needs {name}.png of scikit-image: pip install 'scikit-image>=0.24'")


def _source(texture: str, stream: Stream, number: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, stream, TEXTURES.index(texture), number])


def _part(texture: str, source: np.random.Generator, *, trained: bool) -> np.ndarray:
    """A random square of the trained or of the other part of a texture, perhaps mirrored."""
    whole = _texture(texture)
    held = whole[:, :_TRAINED_COLUMNS] if trained else whole[:, _TRAINED_COLUMNS:]
    top, left = (int(source.integers(size - SIDE + 1)) for size in held.shape)
    part = held[top : top + SIDE, left : left + SIDE]
    return part[:, ::-1] if source.random() < 0.5 else part  # noqa: PLR2004 (one of two)


def _exposed(part: np.ndarray, source: np.random.Generator, gain: float = 1.0) -> np.ndarray:
    """What a camera makes of a part: uint8 (H, W)."""
    own_gain = gain * (1 + _GAIN_SPREAD * source.standard_normal())
    seen = part * own_gain + _NOISE * source.standard_normal(part.shape)
    return np.clip(np.round(seen * 255), 0, 255).astype(np.uint8)


def _moments(part: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Weighted mean and standard deviation."""
    shares = weights / weights.sum()
    mean = float((shares * part).sum())
    return mean, float(np.sqrt((shares * np.square(part - mean)).sum()))


def _blob(source: np.random.Generator) -> np.ndarray:
    """Weights (H, W) of a lobed ellipse of 9 to 18 pixels' radius, soft by two pixels."""
    radius = source.uniform(9, 18)
    down, across = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    middle = source.uniform(radius, SIDE - radius, 2)
    half_axes, turn = radius * source.uniform(0.7, 1.3, 2), source.uniform(0, np.pi)
    along = (across - middle[1]) * np.cos(turn) + (down - middle[0]) * np.sin(turn)
    beside = (down - middle[0]) * np.cos(turn) - (across - middle[1]) * np.sin(turn)
    u, v = along / half_axes[0], beside / half_axes[1]
    lobes = ((3, 0.25 * source.random()), (5, 0.15))
    edge = 1 + sum(height * np.sin(count * np.arctan2(v, u) + source.uniform(0, 2 * np.pi)) for count, height in lobes)
    return np.clip((1.05 - np.hypot(u, v) / edge) * radius / 2, 0, 1).astype(np.float32)


def _curve(source: np.random.Generator) -> np.ndarray:
    """Weights (H, W) of a curve of 30 to 70 pixels' length, two to four pixels wide."""
    drawn = np.zeros((SIDE, SIDE), np.float32)
    for row, column in _steps(source):
        if 0 <= row < SIDE and 0 <= column < SIDE:
            drawn[row, column] = 1
    soft = gaussian_filter(drawn, source.uniform(0.8, 1.6))
    return np.clip(soft / soft.max() * np.float32(1.2), 0, 1)


def _steps(source: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Row and column of each half pixel of a curve."""
    length, direction = int(source.integers(60, 140)), source.uniform(0, 2 * np.pi)
    place, bend = source.uniform(20, SIDE - 20, 2), source.normal(0, 0.01)
    for _ in range(length):
        place = place + 0.5 * np.array([np.sin(direction), np.cos(direction)])
        direction += bend + source.normal(0, 0.02)
        row, column = np.round(place).astype(int)
        yield int(row), int(column)
