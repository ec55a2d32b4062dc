"""From outputs of a run to the answers of all requests that it served alike."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import model_pb2
from google.protobuf.message import Message

from server.batching.row_queue import Array, Buffer, Entry
from server.calls.call import Call
from server.codec import images, protobuf_wire
from server.models.table import ServedModel

# What is noted of (rows, …) outputs that leave.
Note: TypeAlias = Callable[[ServedModel, Sequence[Array]], None]


@dataclass(frozen=True)
class Column:
    """An output of the graph as a Tensor of the response."""

    path: tuple[int, ...]
    """Numbers of the fields that lead to the Tensor."""
    output: int
    to_bytes: bool = False
    """Whether floats in 0 … 1 leave as 0 … 255."""


def column(response: type[Message], path: str, output: int, *, to_bytes: bool = False) -> Column:
    """A column by the path of its Tensor in the response, as `images.tensor`."""
    numbers: list[int] = []
    kind: Any = response.DESCRIPTOR
    for name in path.split("."):
        numbers.append(kind.fields_by_name[name].number)
        kind = kind.fields_by_name[name].message_type
    return Column(tuple(numbers), output, to_bytes)


class Answers:
    """Writes the responses of one method. What they have in common is written once: a response costs a join."""

    def __init__(
        self,
        response: type[Message],
        columns: Sequence[Column],
        note: Note | None = None,
        constant: Callable[[ServedModel], bytes] | None = None,
    ) -> None:
        self._columns = columns
        self._note = note
        self._constant = constant
        self._info = response.DESCRIPTOR.fields_by_name["info"].number

    def __call__(self, entries: Sequence[Entry], outputs: Sequence[Array]) -> None:
        """Answer requests whose rows ran together."""
        served = entries[0].call.served
        assert served is not None  # noqa: S101 (its rows have run)
        if self._note is not None:
            self._note(served, rows_of(entries, outputs))
        columns = [(each, _array(each, outputs)) for each in self._columns if each.output < len(outputs)]
        constant = b"" if self._constant is None else self._constant(served)
        Call.answer_all(self._responses(entries, columns, constant))

    def _responses(
        self, entries: Sequence[Entry], columns: Sequence[tuple[Column, Array]], constant: bytes
    ) -> Iterator[tuple[Call, bytes]]:
        count, queue_seconds, run_seconds = 0, -1.0, -1.0
        parts: list[tuple[bytes, int, memoryview]] = []
        common = constant
        for entry in entries:
            call = entry.call
            if entry.count != count:
                count = entry.count
                parts = [_part(each, array, count) for each, array in columns]
            if call.queue_seconds != queue_seconds or call.run_seconds != run_seconds:
                queue_seconds, run_seconds = call.queue_seconds, call.run_seconds
                common = constant + protobuf_wire.field(self._info, serving_info(call).SerializeToString())
            first, stop = entry.first, entry.first + count
            response: list[Buffer] = [common]
            for opening, row_bytes, data in parts:
                response += (opening, data[first * row_bytes : stop * row_bytes])
            yield call, b"".join(response)


def serving_info(call: Call) -> pb.ServingInfo:
    """What served a call that has run."""
    served = call.served
    assert served is not None  # noqa: S101 (as above)
    return pb.ServingInfo(
        model_name=served.name,
        model_version=served.version,
        queue_microseconds=int(call.queue_seconds * 1e6),
        run_microseconds=int(call.run_seconds * 1e6),
        batch_size=call.batch_rows,
    )


def _array(each: Column, outputs: Sequence[Array]) -> Array:
    """(rows, …) in the form in which it leaves."""
    array = outputs[each.output]
    return np.ascontiguousarray(images.to_bytes(array) if each.to_bytes else array)


def _part(each: Column, array: Array, count: int) -> tuple[bytes, int, memoryview]:
    """What stands before `count` rows of a column, the bytes of a row, and all rows."""
    kind = model_pb2.DATA_TYPE_UINT8 if each.to_bytes else model_pb2.DATA_TYPE_FLOAT32
    rows, *shape = array.shape
    row_bytes = array.nbytes // rows
    opening = protobuf_wire.tensor_opening(each.path, kind, (count, *shape), count * row_bytes)
    return opening, row_bytes, array.data.cast("B")


def rows_of(entries: Sequence[Entry], outputs: Sequence[Array]) -> Sequence[Array]:
    """(rows, …) outputs of these requests alone: others may have run with them, or gone."""
    if sum([entry.count for entry in entries]) == len(outputs[0]):
        return outputs
    rows = np.concatenate([np.arange(entry.first, entry.first + entry.count) for entry in entries])
    return [output[rows] for output in outputs]
