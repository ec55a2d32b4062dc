"""Images that graphs are tried on, in NumPy alone: sizes, cuts, scales; and what stands beside them."""

from math import prod
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature
from autoencoder.v1.shapes import DTYPES, Shapes, Size
from numpy.typing import NDArray

from bundle.golden import ROWS, SEED, Array
from bundle.images import element_types
from bundle.noise import Purpose, normals, uniforms
from export.graphs.tensor_specs import Facts

# Beside the smallest size, in pixels, before they are padded to the network's multiple: odd, long and thin, large.
_OTHER_SIZES = ((37, 53), (24, 200), (256, 320))
# Of free sizes, in pixels, before they are padded: one for held-out images, one for noise.
_GOLDEN_SIZES = ((32, 32), (24, 40))


def tested_sizes(shapes: Shapes) -> list[Size]:
    """Sizes of images that graphs of free sizes are tried on: the smallest, its neighbours, and unlike ones; padded."""
    least, step = shapes.padded(shapes.minimum, shapes.minimum)[0], shapes.multiple
    others = [(max(tall, least), max(wide, least)) for tall, wide in _OTHER_SIZES]
    sizes = [(least, least), (least + step, least), (least + step, least + 2 * step), *others]
    return list(dict.fromkeys(shapes.padded(*size) for size in sizes))


def resized(images: Array, size: Size) -> Array:
    """(N, H, W, C) cut, or mirrored at the bottom and on the right, to a size."""
    height, width = images.shape[1:3]
    return images[:, _mirrored(height, size[0])][:, :, _mirrored(width, size[1])]


def beside(about: Facts, signature: Signature, rows: int) -> list[Array]:
    """Further inputs of a graph: noise of N(0, 1), or noise levels from the highest to the lowest that it takes."""
    if any(spec.name == "noise" for spec in signature.inputs[1:]):
        return [normals(1, Purpose.SCORE, 0, rows, about.latent_size)]
    if about.noise_level is None or len(signature.inputs) == 1:
        return []
    lowest, highest, _ = about.noise_level
    return [np.linspace(highest, lowest, rows).astype(np.float32)]


def pixels(images: Array, kind: type[np.floating[Any]] = np.float32) -> Array:
    """Images of any element type to floats, integers divided by their largest value."""
    return element_types.floats(images, kind)


def _mirrored(length: int, wanted: int) -> NDArray[np.intp]:
    """Indices of an axis, back and forth where more are wanted than there are."""
    forth = np.arange(length)
    return np.resize(np.concatenate([forth, forth[::-1]]), wanted)


def golden_sizes(shapes: Shapes) -> tuple[Size, Size]:
    """Sizes of the images of golden cases; of a fixed size it is that of the images."""
    if not shapes.free:
        return shapes.image[:2], shapes.image[:2]
    least = shapes.minimum
    first, second = (shapes.padded(max(tall, least), max(wide, least)) for tall, wide in _GOLDEN_SIZES)
    return first, second if second != first else (first[0], first[1] + shapes.multiple)


def golden_noise(signature: Signature, size: Size, shapes: Shapes) -> Array:
    """The rows of a golden case for a graph's first input: N(0, 1) for latents and noise, else uniform pixels."""
    spec = signature.inputs[0]
    shape = (ROWS, *shapes.sized(size).spec(spec.name)[1:])
    draw = normals if spec.name in {"latents", "noise"} else uniforms
    noise = draw(SEED, Purpose.ENCODE, 0, ROWS, prod(shape[1:])).reshape(shape)
    return (np.floor(noise * 256) if spec.data_type == DATA_TYPE_UINT8 else noise).astype(DTYPES[spec.data_type])


def fed(images: Array, signature: Signature) -> Array:
    """Images as a graph's input: float32, or uint8, to which finer ones are rounded."""
    if signature.inputs[0].data_type != DATA_TYPE_UINT8:
        return pixels(images)
    return element_types.rounded(images)
