"""Shapes and element types: which images and latents a model takes, and what the tensors of its graphs are then.

Free axes are 0 in a `Model` and -1 in a `TensorSpec`. Bundle, export, server and client all read shapes here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoencoder.v1 import model_pb2 as pb

Size: TypeAlias = tuple[int, int]
"""Height and width."""

DTYPES: dict[int, np.dtype[Any]] = {
    pb.DATA_TYPE_UINT8: np.dtype("u1"),
    pb.DATA_TYPE_UINT16: np.dtype("<u2"),
    pb.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_INT64: np.dtype("<i8"),
}
"""NumPy's types of the wire's, little-endian."""
FREE = -1
_SPATIAL_AXES = 3
_MOST_CELLS = 2**31 - 1


class ShapeError(ValueError):
    """A size or shape that a model does not take: what was expected, what came, what to do."""


@dataclass(frozen=True)
class Shapes:
    """Shapes of a model's images and latents."""

    image: tuple[int, int, int]
    """(H, W, C); H and W are 0 where they are free."""
    latent: tuple[int, ...]
    """(D,) of vectors, (h, w, c) of spatial latents; h and w are 0 where they follow the image's size."""
    labels: int = 0
    downsampling: int = 0
    """Pixels for each cell of spatial latents, along each axis."""
    multiple: int = 1
    """Sizes are padded to multiples of it."""
    minimum: int = 1
    maximum_pixels: int = _MOST_CELLS

    @classmethod
    def of(cls, model: pb.Model) -> "Shapes":
        """Read the shapes of a model, which `bundle.compatibility` has checked."""
        latent = tuple(model.latent_shape) or (model.latent_size,)
        image = (model.height, model.width, model.channels)
        sizes = model.sizes if model.HasField("sizes") else None
        limits = (1, 1, _MOST_CELLS) if sizes is None else (sizes.multiple, sizes.minimum, sizes.maximum_pixels)
        return cls(image, latent, len(model.labels), model.downsampling, *limits)

    @property
    def free(self) -> bool:
        """Whether images of many sizes are taken."""
        return self.image[0] == 0

    @property
    def spatial(self) -> bool:
        """Whether latents are (h, w, c) rather than vectors."""
        return len(self.latent) == _SPATIAL_AXES

    @property
    def numbers(self) -> int:
        """Numbers in what latent statistics are of: a code, flattened, or with free sizes one cell of it."""
        return self.latent[-1] if self.free else prod(self.latent)

    def sized(self, size: Size) -> "Shapes":
        """Return the shapes for padded images of this height and width."""
        if not self.free:
            return self
        return replace(self, image=(*size, self.image[2]), latent=self.latents_of(*size))

    def spec(self, tensor: str) -> list[int]:
        """Return the shape in a TensorSpec of a graph's tensor of this name."""
        if tensor in {"latents", "log_variances", "noise"}:
            axes: Sequence[int] = self.latent
        elif tensor == "probabilities":
            axes = (self.labels,)
        elif tensor in {"images", "reconstructions", "denoised", "maps"}:
            axes = (*self.image[:2], 1) if tensor == "maps" else self.image
        else:
            axes = ()
        return [FREE, *(size or FREE for size in axes)] if self.free else [FREE, *axes]

    def check_size(self, height: int, width: int) -> None:
        """Refuse a size of images.

        Raises:
            ShapeError: smaller or larger than the model takes, or another than its one size.
        """
        if not self.free and (height, width) != self.image[:2]:
            expected = "{} x {} pixels (height x width)".format(*self.image)
        elif min(height, width) < self.minimum:
            expected = f"at least {self.minimum} pixels in height and width"
        elif height * width > self.maximum_pixels:
            expected = f"at most {self.maximum_pixels} pixels"
        else:
            return
        raise ShapeError(f"expected images of {expected}, got {height} x {width}")

    def padded(self, height: int, width: int) -> Size:
        """Return the size that the graphs get for an image of this size."""
        step = self.multiple
        return -(-height // step) * step, -(-width // step) * step

    def latents_of(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the latents of one image."""
        if not (self.free and self.spatial):
            return self.latent
        tall, wide = self.padded(height, width)
        return tall // self.downsampling, wide // self.downsampling, self.latent[2]

    def image_of(self, latents: Sequence[int]) -> tuple[int, int, int]:
        """Return the shape of the image that latents of this shape, without the batch, decode to.

        Raises:
            ShapeError: not latents of this model.
        """
        if not (self.free and self.spatial):
            if tuple(latents) != self.latent:
                raise ShapeError(f"expected latents of {self.latent}, got {tuple(latents)}")
            return self.image
        if len(latents) != _SPATIAL_AXES or latents[2] != self.latent[2] or min(latents) < 1:
            raise ShapeError(f"expected latents (h, w, {self.latent[2]}), got {tuple(latents)}")
        height, width = latents[0] * self.downsampling, latents[1] * self.downsampling
        if (height, width) != self.padded(height, width):
            raise ShapeError(f"expected latents of images in multiples of {self.multiple}, got {height} x {width}")
        self.check_size(height, width)
        return height, width, self.image[2]


def pad(images: NDArray[Any], size: Size) -> NDArray[Any]:
    """Pad (…, H, W, C) at the bottom and on the right: mirrored, or by the edge where too small for that."""
    for axis, wanted in zip((-3, -2), size, strict=True):
        length = images.shape[axis]
        if length < wanted:
            widths = [(0, 0)] * images.ndim
            widths[axis] = (0, wanted - length)
            images = np.pad(images, widths, mode="reflect" if wanted - length < length else "edge")
    return images
