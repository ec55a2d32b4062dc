"""Inputs and outputs of graphs made elsewhere: their element types and shapes, and which of them are images or maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx
from onnx import ModelProto, TensorProto

from export.errors import InputError

ImageShape = tuple[int, int, int]

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
_COLOURS = {1, 3}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph made elsewhere; `shape` leaves out the batch, free height and width are 0."""

    name: str
    element: int
    shape: tuple[int, ...]

    @property
    def free(self) -> bool:
        """Whether it takes or gives any height and width."""
        return 0 in self.shape

    def is_channels_last(self, images: ImageShape) -> bool:
        """How its axes lie: of an image, or of spatial latents of any size."""
        if self.free:
            return self.shape[2] != 0
        return self.shape == images and self.shape[2] in _COLOURS


def ports(model: ModelProto) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs, without the weights that old exporters list among the inputs.

    Raises:
        InputError: there are no inputs or no outputs, the batch is not free, or another axis is.
    """
    weights = {each.name for each in model.graph.initializer}
    inputs = [_port(each) for each in model.graph.input if each.name not in weights]
    outputs = [_port(each) for each in model.graph.output]
    if not inputs or not outputs:
        raise InputError(f"expected a graph with inputs and outputs, got {len(inputs)} and {len(outputs)}")
    return inputs, outputs


def image_shape(shape: Sequence[int], expected: ImageShape | None) -> ImageShape:
    """(H, W, C) of the images that a tensor of this shape holds.

    Raises:
        InputError: it is ambiguous, or does not fit `expected`.
    """
    if expected is not None and prod(shape) == prod(expected):
        return expected
    found = {(shape[1], shape[2], shape[0])} if len(shape) == 3 and shape[0] in _COLOURS else set[ImageShape]()  # noqa: PLR2004 (rank of an image)
    if len(shape) == 3 and shape[2] in _COLOURS:  # noqa: PLR2004 (likewise)
        found.add((shape[0], shape[1], shape[2]))
    if len(found) == 1 and expected is None:
        return found.pop()
    images = f"images of {' x '.join(map(str, shape))} numbers"
    raise InputError(
        f"expected {images} to be {expected or 'of one height, width and channels'}: give --image-shape HxWxC"
    )


def maps_port(outputs: Sequence[Port], images: ImageShape) -> Port:
    """The output of a detector with a number for each pixel.

    Raises:
        InputError: there is none, or there are several.
    """
    pixels, free = prod(images[:2]), {(1, 0, 0), (0, 0, 1)}
    found = [
        each
        for each in outputs
        if each.element in FLOATS and (prod(each.shape) == pixels if pixels else each.shape in free)
    ]
    if len(found) != 1:
        shapes = ", ".join(f"{each.name} (N, {', '.join(map(str, each.shape))})" for each in outputs)
        raise InputError(f"detect: expected one output of floats with a number for each pixel, its map, got {shapes}")
    return found[0]


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    if not tensor.shape.dim:
        raise InputError(f"{value.name}: expected a tensor with a free batch, got one without axes")
    batch, *sizes = tensor.shape.dim
    # Some tools write -1 where the size is free.
    if batch.dim_value > 0:
        raise InputError(
            f"{value.name}: expected a free batch, got one of {batch.dim_value}: export with a dynamic first axis"
        )
    known = tuple(max(size.dim_value, 0) for size in sizes)
    if 0 in known and not (len(known) == 3 and known[1] == 0 and known.count(0) == 2):  # noqa: PLR2004 (height and width of an image)
        raise InputError(
            f"{value.name}: expected known sizes after the batch, got {[s.dim_value or s.dim_param for s in sizes]}: "
            "give --image-shape HxWxC, or export with fixed sizes, or with both height and width free"
        )
    return Port(value.name, tensor.elem_type, known)
