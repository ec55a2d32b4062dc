"""Items of Stream: requests and answers of other methods under ids of the caller's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoencoder.v1 import autoencoder_pb2 as pb

from hourglass_client import answers
from hourglass_client.errors import HourglassError, from_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator

    from hourglass_client.requests import Request

Answer = (
    answers.Encoded
    | answers.Decoded
    | answers.Reconstructed
    | answers.Denoised
    | answers.Sampled
    | answers.Interpolated
    | answers.Edited
    | answers.Classified
)


_FIELDS: dict[type[Request], str] = {
    pb.EncodeRequest: "encode",
    pb.DecodeRequest: "decode",
    pb.ReconstructRequest: "reconstruct",
    pb.DenoiseRequest: "denoise",
    pb.SampleRequest: "sample",
    pb.InterpolateRequest: "interpolate",
    pb.EditRequest: "edit",
    pb.ClassifyRequest: "classify",
}
_ANSWERS: dict[str, Callable[[Any], Answer]] = {
    "encode": answers.Encoded.from_message,
    "decode": answers.Decoded.from_message,
    "reconstruct": answers.Reconstructed.from_message,
    "denoise": answers.Denoised.from_message,
    "sample": answers.Sampled.from_message,
    "interpolate": answers.Interpolated.from_message,
    "edit": answers.Edited.from_message,
    "classify": answers.Classified.from_message,
}


def to_message(name: str, request: Request) -> pb.StreamRequest:
    """A request under its id."""
    message = pb.StreamRequest(id=name)
    getattr(message, _FIELDS[type(request)]).CopyFrom(request)
    return message


def from_message(message: pb.StreamResponse) -> tuple[str, Answer | HourglassError]:
    """An answer, or the failure of this one request, under its id."""
    kind: str | None = message.WhichOneof("response")
    if kind in _ANSWERS:
        return message.id, _ANSWERS[kind](getattr(message, kind))
    return message.id, from_status(message.error)


class Outgoing:
    """The requests of a stream, taken by a thread of gRPC's; what their iterator raises is kept for the caller."""

    def __init__(self, items: Iterable[tuple[str, Request]]) -> None:
        self._items = items
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pb.StreamRequest]:
        try:
            for name, request in self._items:
                yield to_message(name, request)
        except Exception as error:
            self.failure = error
            raise


class AsyncOutgoing:
    """The same for asyncio, where a task of gRPC's takes them."""

    def __init__(self, items: AsyncIterable[tuple[str, Request]]) -> None:
        self._items = items
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[pb.StreamRequest]:
        try:
            async for name, request in self._items:
                yield to_message(name, request)
        except Exception as error:
            self.failure = error
            raise
