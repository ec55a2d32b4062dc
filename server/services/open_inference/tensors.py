"""Tensors of the Open Inference Protocol to rows of a graph and back, every size and value checked."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from inference import open_inference_pb2 as pb
from numpy.typing import NDArray

from server.codec import images, tensors
from server.errors import InvalidArgumentError
from server.services.open_inference.graphs import Graph
from server.types import Buffer

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
    if _SHARED_MEMORY in given.parameters:
        raise InvalidArgumentError(
            "inputs[0].parameters", f"shared memory is not supported: send {graph.input!r} in the request"
        )
    if given.datatype != graph.datatype:
        raise InvalidArgumentError(
            "inputs[0].datatype", f"expected {graph.datatype} for {graph.input!r}, got {_clip(given.datatype)}"
        )
    rows = _check_shape(graph, given, limit_rows)
    raw = request.raw_input_contents
    if len(raw):
        # `check_raw` checks the values later, as it does for requests that are recognised instead of parsed.
        return _raw(graph, given, raw, rows), rows
    return check_raw(graph, _typed(graph, given, rows)), rows


def check_raw(graph: Graph, data: Buffer) -> Buffer:
    """Check the values of rows and return the rows unchanged.

    Raises:
        InvalidArgumentError: values out of range, NaN or infinity.
    """
    if graph.datatype != "UINT8":
        _check_values(graph, data)
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


def _check_shape(graph: Graph, given: InputTensor, limit_rows: int) -> int:
    shape = tensors.shape_of(given.shape, "inputs[0].shape")
    if not shape or shape[1:] != graph.row_shape:
        expected = ", ".join(map(str, graph.row_shape))
        raise InvalidArgumentError(
            "inputs[0].shape",
            f"expected (N, {expected}) for {graph.input!r}, got {_clip(tensors.shape_text(shape), 100)}",
        )
    if not 0 < shape[0] <= limit_rows:
        raise InvalidArgumentError("inputs[0].shape", f"expected 1 to {limit_rows} rows a request, got {shape[0]}")
    return shape[0]


def _raw(graph: Graph, given: InputTensor, raw: Sequence[bytes], rows: int) -> Buffer:
    if given.HasField("contents") and given.contents.ListFields():
        raise InvalidArgumentError("inputs[0].contents", "expected either contents or raw_input_contents, got both")
    if len(raw) != 1:
        raise InvalidArgumentError("raw_input_contents", f"expected one entry for each of 1 inputs, got {len(raw)}")
    data = raw[0]
    expected = rows * graph.row_bytes
    if len(data) != expected:
        shape = tensors.shape_text((rows, *graph.row_shape))
        raise InvalidArgumentError(
            "raw_input_contents[0]",
            f"expected {expected} bytes, as shape {shape} of {graph.datatype} needs, got {len(data)}",
        )
    return data


def _typed(graph: Graph, given: InputTensor, rows: int) -> Buffer:
    expected_field = _CONTENTS.get(graph.datatype)
    if expected_field is None:
        raise InvalidArgumentError("raw_input_contents", f"{graph.datatype} is accepted only in raw_input_contents")
    fields = [field.name for field, _ in given.contents.ListFields()]
    if fields != [expected_field]:
        got = ", ".join(fields) or "nothing"
        raise InvalidArgumentError(
            "inputs[0].contents", f"expected {expected_field} for {graph.datatype}, or raw_input_contents, got {got}"
        )
    elements = getattr(given.contents, expected_field)
    expected = rows * math.prod(graph.row_shape)
    field = f"inputs[0].contents.{expected_field}"
    if len(elements) != expected:
        shape = tensors.shape_text((rows, *graph.row_shape))
        raise InvalidArgumentError(field, f"expected {expected} elements, as shape {shape} needs, got {len(elements)}")
    array = np.empty(expected, _ELEMENTS[graph.datatype])
    for first in range(0, expected, _ELEMENTS_AT_ONCE):
        array[first : first + _ELEMENTS_AT_ONCE] = elements[first : first + _ELEMENTS_AT_ONCE]
    return _narrow(array, graph, field).data


def _narrow(array: NDArray[Any], graph: Graph, field: str) -> NDArray[Any]:
    """uint_contents carries 32 bits an element."""
    if graph.datatype == "UINT8" and array.max() > np.iinfo(np.uint8).max:
        raise InvalidArgumentError(field, f"expected 0 to 255 for UINT8, got {array.max()}")
    return array.astype(graph.dtype)


def _check_values(graph: Graph, data: Buffer) -> None:
    array = np.frombuffer(data, graph.dtype)
    field = f"inputs[0] ({graph.input})"
    if graph.unit_range:
        images.check_unit_range(array, field)
    else:
        tensors.check_latents(array, field)


def _clip(text: str, length: int = 60) -> str:
    """Quote what a caller sent, short enough for an error message."""
    return repr(text if len(text) <= length else f"{text[:length]}…")
