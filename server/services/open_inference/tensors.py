"""Tensors of the Open Inference Protocol to rows of a graph and back, every size and value checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1.shapes import DTYPES, FREE, ShapeError
from inference import open_inference_pb2 as pb
from numpy.typing import NDArray

from server.codec import pixels, tensors
from server.errors import InvalidArgumentError
from server.services.open_inference.graphs import Graph, datatype
from server.types import Array, Buffer

InputTensor: TypeAlias = pb.ModelInferRequest.InferInputTensor

_CONTENTS = {"UINT8": "uint_contents", "INT64": "int64_contents", "FP32": "fp32_contents"}
_ELEMENTS = {"UINT8": np.uint32, "INT64": np.int64, "FP32": np.float32}
# Copied in about a tenth of a millisecond; other threads can run between two pieces.
_ELEMENTS_AT_ONCE = 4096
_SHARED_MEMORY = "shared_memory_region"


def read_rows(graph: Graph, request: pb.ModelInferRequest, limit_rows: int) -> tuple[Buffer, int]:
    """Rows for a graph: a buffer and N; values of raw contents are not checked yet.

    Raises:
        InvalidArgumentError: inputs missing, unknown or twice; another type, shape or size; values out of range.
    """
    inputs = request.inputs
    given = inputs[0] if len(inputs) == 1 else None
    if given is None or given.name != graph.input:
        raise _wrong_names(graph, request)
    port = _Port(0, graph.input, graph.datatype, graph.dtype, graph.row_shape)
    rows = _check_given(port, given, limit_rows)
    raw = request.raw_input_contents
    if len(raw):
        # `check_raw` checks the values later, as it does for requests that are recognised instead of parsed.
        return _raw(port, given, raw, rows, 1), rows
    return check_raw(graph, _typed(port, given, rows)), rows


def read_items(graph: Graph, request: pb.ModelInferRequest, limit_rows: int) -> tuple[list[Array], list[Any]]:
    """Rows for a graph of free sizes, or with a second input: one array each; and the rows of that, if they were sent.

    Only noise levels may be absent, or one for all rows.

    Raises:
        InvalidArgumentError: as `read_rows`, with all values checked.
    """
    specs = {spec.name: spec for spec in graph.signature.inputs}
    places = {given.name: index for index, given in enumerate(request.inputs)}
    if places.keys() - specs.keys() or graph.input not in places or len(places) < len(request.inputs):
        got = ", ".join(_clip(given.name) for given in request.inputs) or "no input"
        raise InvalidArgumentError("inputs", f"expected {' and '.join(map(repr, specs))}, once each, got {got}")
    arrays: dict[str, Array] = {}
    for name, index in places.items():
        given, spec = request.inputs[index], specs[name]
        sizes = tensors.shape_of(given.shape, f"inputs[{index}].shape")[1:]
        shape = spec.shape[1:]
        if len(sizes) == len(shape):
            shape = [size if each == FREE else each for each, size in zip(shape, sizes, strict=True)]
        port = _Port(index, name, datatype(spec.data_type), DTYPES[spec.data_type], tuple(shape))
        rows = _check_given(port, given, limit_rows)
        if name == graph.input:
            _check_sizes(graph, shape, f"{port.field}.shape")
        raw = request.raw_input_contents
        data = _raw(port, given, raw, rows, len(request.inputs)) if len(raw) else _typed(port, given, rows)
        arrays[name] = np.frombuffer(data, port.dtype).reshape(rows, *port.row_shape)
    if graph.dtype != np.uint8:
        _check_values(graph, arrays[graph.input], places[graph.input])
    if "noise" in specs:
        _check_noise(arrays, places, len(arrays[graph.input]))
    second = [array for name, array in arrays.items() if name != graph.input]
    return [*arrays[graph.input]], [*second[0]] if second else []


def _check_noise(arrays: Mapping[str, Array], places: Mapping[str, int], rows: int) -> None:
    if "noise" not in arrays:
        raise InvalidArgumentError("inputs", "expected 'images' and 'noise', once each, got no 'noise'")
    field = f"inputs[{places['noise']}]"
    if len(arrays["noise"]) != rows:
        raise InvalidArgumentError(f"{field}.shape", f"expected {rows} rows, one an image, got {len(arrays['noise'])}")
    tensors.check_latents(arrays["noise"], f"{field} (noise)")


def check_raw(graph: Graph, data: Buffer) -> Buffer:
    """Check the values of rows and return the rows unchanged.

    Raises:
        InvalidArgumentError: values out of range, NaN or infinity.
    """
    if graph.datatype != "UINT8":
        _check_values(graph, np.frombuffer(data, graph.dtype))
    return data


def fill_contents(message: pb.InferTensorContents, array: NDArray[Any]) -> None:
    """Write an array's elements into the field of its type."""
    field = "uint_contents" if array.dtype == np.uint8 else "fp32_contents"
    elements, flat = getattr(message, field), array.ravel()
    for first in range(0, flat.size, _ELEMENTS_AT_ONCE):
        elements.extend(flat[first : first + _ELEMENTS_AT_ONCE].tolist())


def _wrong_names(graph: Graph, request: pb.ModelInferRequest) -> InvalidArgumentError:
    for index, given in enumerate(request.inputs):
        field = f"inputs[{index}].name"
        if given.name != graph.input:
            expected = f"expected {graph.input!r}, the input of {graph.name}"
            return InvalidArgumentError(field, f"{expected}, got {_clip(given.name)}")
        if index:
            return InvalidArgumentError(field, f"expected {graph.input!r} once, got it twice")
    return InvalidArgumentError("inputs", f"expected {graph.input!r}, got no input")


@dataclass(frozen=True)
class _Port:
    """An input of the graph, and where the request has it."""

    index: int
    name: str
    datatype: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]

    @property
    def field(self) -> str:
        return f"inputs[{self.index}]"


def _check_given(port: _Port, given: InputTensor, limit_rows: int) -> int:
    """Check what precedes the contents of an input; return its rows."""
    if _SHARED_MEMORY in given.parameters:
        raise InvalidArgumentError(
            f"{port.field}.parameters", f"shared memory is not supported: send {port.name!r} in the request"
        )
    if given.datatype != port.datatype:
        raise InvalidArgumentError(
            f"{port.field}.datatype", f"expected {port.datatype} for {port.name!r}, got {_clip(given.datatype)}"
        )
    shape = tensors.shape_of(given.shape, f"{port.field}.shape")
    if not shape or shape[1:] != port.row_shape:
        expected = ", ".join("any" if size == FREE else str(size) for size in port.row_shape)
        raise InvalidArgumentError(
            f"{port.field}.shape",
            f"expected (N, {expected}) for {port.name!r}, got {_clip(tensors.shape_text(shape), 100)}",
        )
    if not 0 < shape[0] <= limit_rows:
        raise InvalidArgumentError(f"{port.field}.shape", f"expected 1 to {limit_rows} rows a request, got {shape[0]}")
    return shape[0]


def _check_sizes(graph: Graph, row: Sequence[int], field: str) -> None:
    """Refuse a shape of one image or latent, before anything is made of its sizes."""
    shapes = graph.served.shapes
    try:
        if graph.input == "images":
            shapes.check_size(row[0], row[1])
        else:
            shapes.image_of(row)
    except ShapeError as error:
        raise InvalidArgumentError(field, str(error)) from error


def _raw(port: _Port, given: InputTensor, raw: Sequence[bytes], rows: int, inputs: int) -> Buffer:
    if given.HasField("contents") and given.contents.ListFields():
        raise InvalidArgumentError(f"{port.field}.contents", "expected either contents or raw_input_contents, got both")
    if len(raw) != inputs:
        raise InvalidArgumentError(
            "raw_input_contents", f"expected one entry for each of {inputs} inputs, got {len(raw)}"
        )
    data = raw[port.index]
    expected = rows * math.prod(port.row_shape) * port.dtype.itemsize
    if len(data) != expected:
        shape = tensors.shape_text((rows, *port.row_shape))
        raise InvalidArgumentError(
            f"raw_input_contents[{port.index}]",
            f"expected {expected} bytes, as shape {shape} of {port.datatype} needs, got {len(data)}",
        )
    return data


def _typed(port: _Port, given: InputTensor, rows: int) -> Buffer:
    expected_field = _CONTENTS.get(port.datatype)
    if expected_field is None:
        raise InvalidArgumentError("raw_input_contents", f"{port.datatype} is accepted only in raw_input_contents")
    fields = [field.name for field, _ in given.contents.ListFields()]
    if fields != [expected_field]:
        got = ", ".join(fields) or "nothing"
        raise InvalidArgumentError(
            f"{port.field}.contents",
            f"expected {expected_field} for {port.datatype}, or raw_input_contents, got {got}",
        )
    elements = getattr(given.contents, expected_field)
    expected = rows * math.prod(port.row_shape)
    field = f"{port.field}.contents.{expected_field}"
    if len(elements) != expected:
        shape = tensors.shape_text((rows, *port.row_shape))
        raise InvalidArgumentError(field, f"expected {expected} elements, as shape {shape} needs, got {len(elements)}")
    array = np.empty(expected, _ELEMENTS[port.datatype])
    for first in range(0, expected, _ELEMENTS_AT_ONCE):
        array[first : first + _ELEMENTS_AT_ONCE] = elements[first : first + _ELEMENTS_AT_ONCE]
    return _narrow(array, port, field).data


def _narrow(array: NDArray[Any], port: _Port, field: str) -> NDArray[Any]:
    """uint_contents carries 32 bits an element."""
    if port.datatype == "UINT8" and array.max() > np.iinfo(np.uint8).max:
        raise InvalidArgumentError(field, f"expected 0 to 255 for UINT8, got {array.max()}")
    return array.astype(port.dtype)


def _check_values(graph: Graph, array: Array, index: int = 0) -> None:
    field = f"inputs[{index}] ({graph.input})"
    if graph.range is not None:
        pixels.check_range(array, field, graph.range)
    else:
        tensors.check_latents(array, field)


def _clip(text: str, length: int = 60) -> str:
    """Quote what a caller sent, short enough for an error message."""
    return repr(text if len(text) <= length else f"{text[:length]}…")
