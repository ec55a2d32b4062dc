"""Tensors and nodes of an ONNX graph, as shape inference reads them."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]
Value: TypeAlias = NDArray[Any]

# Estimates count every number as a float32, which nearly all are.
BYTES_PER_NUMBER = 4
# Sizes are computed from tensors of a few numbers; a larger one is data.
MAX_VALUES = 1024
# TensorProto.DataType, and the field that holds the numbers where raw_data does not.
DTYPES = {
    1: ("<f4", "float_data"),
    2: ("u1", "int32_data"),
    3: ("i1", "int32_data"),
    4: ("<u2", "int32_data"),
    5: ("<i2", "int32_data"),
    6: ("<i4", "int32_data"),
    7: ("<i8", "int64_data"),
    9: ("?", "int32_data"),
    10: ("<f2", ""),
    11: ("<f8", "double_data"),
    12: ("<u4", ""),
    13: ("<u8", ""),
}


class Tensor(NamedTuple):
    """What is known of a tensor before anything runs."""

    shape: Shape
    value: Value | None = None
    constant: bool = False
    """Made of constants alone, so that a runtime computes and keeps it when it loads the graph."""

    @property
    def size_bytes(self) -> int:
        """Estimated, at four bytes a number."""
        return BYTES_PER_NUMBER * math.prod(self.shape)


class Node:
    """An operator with its inputs and attributes."""

    def __init__(self, proto: Any, inputs: Sequence[Tensor | None]) -> None:  # noqa: ANN401 (made from a descriptor at run time)
        self.operator = str(proto.op_type)
        self.outputs = len(proto.output)
        self._inputs = inputs
        self._attributes = {each.name: each for each in proto.attribute}

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self._inputs) and self._inputs[index] is not None

    def tensor(self, index: int = 0) -> Tensor:
        """An input.

        Raises:
            ValueError: it is missing.
        """
        found = self._inputs[index] if index < len(self._inputs) else None
        if found is None:
            raise ValueError(f"input {index} is missing")
        return found

    def shape(self, index: int = 0) -> Shape:
        """Shape of an input."""
        return self.tensor(index).shape

    def shapes(self) -> list[Shape]:
        """Shapes of all inputs that are given."""
        return [each.shape for each in self._inputs if each is not None]

    def values(self) -> list[Value] | None:
        """Numbers of all inputs, where all are known."""
        values = [each.value for each in self._inputs if each is not None]
        known = [each for each in values if each is not None]
        return known if known and len(known) == len(values) else None

    def floats(self, index: int) -> list[float]:
        """Numbers of an input that sizes follow from.

        Raises:
            ValueError: only a run shows them.
        """
        value = self.tensor(index).value
        if value is None:
            raise ValueError(f"input {index} is known only when the graph runs")
        return [float(number) for number in value.ravel()]

    def integers(self, index: int) -> list[int]:
        """As `floats`, for integers."""
        return [int(number) for number in self.floats(index)]

    def attribute(self, name: str) -> Any:  # noqa: ANN401 (likewise)
        """Message of an attribute; None where it is not given."""
        return self._attributes.get(name)

    def integer(self, name: str, default: int) -> int:
        """Attribute that is an integer."""
        found = self.attribute(name)
        return default if found is None else int(found.i)

    def ints(self, name: str, default: Iterable[int] = ()) -> list[int]:
        """Attribute that is a list of integers."""
        found = self.attribute(name)
        return [*default] if found is None else [*found.ints]

    def text(self, name: str, default: str) -> str:
        """Attribute that is a string."""
        found = self.attribute(name)
        return default if found is None else bytes(found.s).decode("utf-8", "replace")

    def axes(self, index: int) -> list[int]:
        """Axes from an input, or in older opsets from an attribute; empty where neither is given."""
        return self.integers(index) if self.has(index) else self.ints("axes")


def tensor_of(proto: Any) -> Tensor:  # noqa: ANN401 (likewise)
    """A TensorProto of the file: its shape, and its numbers where they are few.

    Raises:
        ValueError: it holds other numbers than its shape says.
    """
    shape = tuple(int(size) for size in proto.dims)
    if any(size < 0 for size in shape):
        raise ValueError(f"expected sizes from 0, got {shape[:8]}")
    dtype, field = DTYPES.get(proto.data_type, ("", ""))
    if not dtype or math.prod(shape) > MAX_VALUES:
        return Tensor(shape, None, constant=True)
    if proto.raw_data:
        value = np.frombuffer(proto.raw_data, np.dtype(dtype))
    else:
        value = np.array(list(getattr(proto, field)) if field else [], np.dtype(dtype))
    return Tensor(shape, value.reshape(shape) if value.size == math.prod(shape) else None, constant=True)
