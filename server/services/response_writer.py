"""Batched response serialiser: from the outputs of one run to the responses of all requests with the same form."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import model_pb2
from google.protobuf.message import Message

from server.batching.entry import Entry
from server.calls.call import Call
from server.codec import pixels, protobuf_wire
from server.model_version import ModelVersion
from server.types import Array, Buffer

# From the (N, …) shape of a response's rows and their size in bytes to the bytes that precede them.
Header: TypeAlias = Callable[[tuple[int, ...], int], bytes]
# From the version, the number of rows N and the (rows, …) outputs to the fields that all responses of N rows share.
Head: TypeAlias = Callable[[ModelVersion, int, Sequence[Array]], bytes]

_QUANTISED: dict[int, tuple[model_pb2.DataType, Callable[[Array], Array]]] = {
    pb.IMAGE_FORMAT_UINT8: (model_pb2.DATA_TYPE_UINT8, pixels.to_bytes),
    pb.IMAGE_FORMAT_UINT16: (model_pb2.DATA_TYPE_UINT16, pixels.to_words),
}


@dataclass(frozen=True)
class OutputField:
    """An output of the graph, and how the response holds it."""

    output: int
    header: Header
    quantise: Callable[[Array], Array] | None = None
    """From floats in 0 … 1 to the integers that are sent."""


def tensor_field(
    response: type[Message], path: str, output: int, image_format: int = pb.IMAGE_FORMAT_FLOAT32
) -> OutputField:
    """Make a field for an output that leaves as the Tensor at a path of the response, such as `images.tensor`."""
    numbers: list[int] = []
    kind: Any = response.DESCRIPTOR
    for name in path.split("."):
        numbers.append(kind.fields_by_name[name].number)
        kind = kind.fields_by_name[name].message_type
    data_type, quantise = _QUANTISED.get(image_format, (model_pb2.DATA_TYPE_FLOAT32, None))
    return OutputField(output, partial(protobuf_wire.tensor_header, tuple(numbers), data_type), quantise)


def raw_field(number: int, output: int) -> OutputField:
    """Make a field for an output that leaves as bytes in the field of this number."""
    return OutputField(output, lambda _, size_bytes: protobuf_wire.field_header(number, size_bytes))


def info_field(response: type[Message]) -> int:
    """Return the number of the response's field for the ServingInfo."""
    return response.DESCRIPTOR.fields_by_name["info"].number


class ResponseWriter:
    """Writes responses. What those of one run have in common is serialised once: each further one costs a join.

    A response is the head, the ServingInfo under the number `info` if there is one, what the call echoes, and the
    fields.
    """

    def __init__(self, fields: Sequence[OutputField], head: Head | None = None, info: int | None = None) -> None:
        self._fields = fields
        self._head = head
        self._info = info

    def __call__(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Answer requests whose rows ran together."""
        Call.answer_all(self._responses(entries, outputs))

    def _responses(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> Iterator[tuple[Call, bytes]]:
        arrays = [(field, _array(field, outputs)) for field in self._fields if field.output < len(outputs)]
        count, queue_seconds, run_seconds = 0, -1.0, -1.0
        parts: list[tuple[bytes, int, memoryview]] = []
        info, head = self._info, b""
        common = b""
        for entry in entries:
            call = entry.call
            if entry.count != count:
                count, queue_seconds = entry.count, -1.0
                common = head = b"" if self._head is None else self._head(version_of(call), count, outputs)
                parts = [_part(field, array, count) for field, array in arrays]
            if info and (call.queue_seconds != queue_seconds or call.run_seconds != run_seconds):
                queue_seconds, run_seconds = call.queue_seconds, call.run_seconds
                common = head + protobuf_wire.length_delimited(info, serving_info(call).SerializeToString())
            first, stop = entry.first, entry.first + count
            response: list[Buffer] = [common, call.echo]
            for header, row_bytes, data in parts:
                response += (header, data[first * row_bytes : stop * row_bytes])
            yield call, b"".join(response)


def serving_info(call: Call) -> pb.ServingInfo:
    """What served a call whose rows have run."""
    version = version_of(call)
    return pb.ServingInfo(
        model_name=version.name,
        model_version=version.version,
        queue_microseconds=int(call.queue_seconds * 1e6),
        run_microseconds=int(call.run_seconds * 1e6),
        batch_size=call.batch_rows,
        tiles=call.tiles,
        exact=call.exact,
    )


def version_of(call: Call) -> ModelVersion:
    """Return the version that served a call whose rows have run."""
    assert call.served is not None  # noqa: S101 (its rows have run)
    return call.served


def _array(field: OutputField, outputs: Sequence[Array]) -> Array:
    """(rows, …) in the form in which it leaves."""
    array = outputs[field.output]
    return np.ascontiguousarray(array if field.quantise is None else field.quantise(array))


def _part(field: OutputField, array: Array, count: int) -> tuple[bytes, int, memoryview]:
    """Bytes before `count` rows of a field, bytes of one row, and all rows."""
    rows, *shape = array.shape
    row_bytes = array.nbytes // rows
    return field.header((count, *shape), count * row_bytes), row_bytes, array.data.cast("B")
