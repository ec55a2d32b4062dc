"""From a request's rows to a graph and from its outputs to an answer: what every RPC that runs a graph shares."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias
from weakref import ref

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from server.batching.executor import Dispatcher
from server.batching.row_queue import Array, Buffer, Done, Each, Entry
from server.calls.call import Call
from server.codec import images, tensors
from server.codec.tensors import Convert
from server.config import LimitsConfig
from server.errors import InvalidArgumentError
from server.models.table import ModelTable, ServedModel
from server.parse_cache import Route
from server.services.response_writer import serving_info

Latents: TypeAlias = NDArray[np.float32]
Reading: TypeAlias = tuple[Convert | None, int]


class ModelRequest(Protocol):
    """A request that names a model."""

    model_name: str
    model_version: str


class ImagesRequest(ModelRequest, Protocol):
    """A request with images in it."""

    @property
    def images(self) -> pb.Images:
        """As tensor or files."""
        ...


class Response(Protocol):
    """A response with `info`."""

    @property
    def info(self) -> pb.ServingInfo:
        """What served the request."""
        ...

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """Bytes on the wire."""
        ...


class ImagesResponse(Response, Protocol):
    """A response with `images` too."""

    @property
    def images(self) -> pb.Images:
        """(N, H, W, C)."""
        ...


@dataclass(frozen=True)
class Source:
    """Points of the latent space, given by images to encode or as latents; `field` is the request's name for it."""

    field: str
    images: pb.Images | None
    latents: pb.Tensor | None
    limit_rows: int


class GraphCalls:
    """Runs graphs for calls."""

    def __init__(self, table: ModelTable, dispatcher: Dispatcher, limits: LimitsConfig) -> None:
        self.table = table
        self.limits = limits
        self._dispatcher = dispatcher

    def model(self, call: Call, request: ModelRequest, method: str) -> ServedModel:
        """Find the model that a request names, for a method that it must have."""
        served = self.table.get(request.model_name, request.model_version)
        call.served = served
        served.check(method)
        return served

    def run(self, call: Call, signature: str, rows: Buffer, count: int, done: Done) -> None:
        """Queue `count` rows for a graph of the call's model; `done` gets its outputs."""
        assert call.served is not None  # noqa: S101 (every caller has found its model)
        call.served.batchers[signature].submit(Entry(call, rows, count, done), time.monotonic())

    def run_data(
        self, call: Call, names: tuple[str, str], signature: str, data: bytes, reading: Reading, done: Done
    ) -> None:
        """Queue rows that a request carries as bytes, and remember what was found out of it.

        Names are those by which the table found the call's model; `reading` says how the bytes become how many rows.
        """
        convert, count = reading
        rows = data if convert is None else convert(data)
        if call.learn is not None:
            assert call.served is not None  # noqa: S101 (as above)
            call.learn(Route(self.table, *names, ref(call.served), signature, count, convert, done), data)
        self.run(call, signature, rows, count, done)

    def run_images(self, call: Call, request: ImagesRequest, signature: str, done: Done) -> None:
        """Queue a request's images for a graph; files are decoded on another thread first."""
        message, served = request.images, call.served
        assert served is not None  # noqa: S101 (as above)
        if message.HasField("tensor"):
            sent, limit = message.tensor, self.limits.max_request_rows
            reading = images.rows_of_tensor(sent, "images", served.image_shape, served.input_types[signature], limit)
            self.run_data(call, (request.model_name, request.model_version), signature, sent.data, reading, done)
        elif message.HasField("encoded"):
            self.offload(call, partial(self._run_files, call, signature, message, done), message.ByteSize())
        else:
            raise InvalidArgumentError("images", "expected images as a tensor or as encoded files, got neither")

    def run_sources(self, call: Call, sources: Sequence[Source], done: Callable[[list[Latents]], None]) -> None:
        """Turn each source into (N, D) latents, all images of the call in one run, and go on with `done`."""
        encoded = [s.images for s in sources if s.images is not None and s.images.HasField("encoded")]
        if encoded:
            size_bytes = sum(message.ByteSize() for message in encoded)
            self.offload(call, partial(self._run_sources, call, sources, done), size_bytes)
        else:
            self._run_sources(call, sources, done)

    def offload(self, call: Call, job: Callable[[], None], size_bytes: int = 0) -> None:
        """Do slow work on data of this size on another thread, unless the caller has gone by then.

        What the work raises ends the call.

        Raises:
            OverloadedError: too much of it waits.
        """
        self._dispatcher.offload(partial(_guarded, call, job), size_bytes, call.caller)

    def answer(self, call: Call, response: Response) -> None:
        """Add what served the call and send the response."""
        response.info.CopyFrom(serving_info(call))
        call.answer(response.SerializeToString())

    def answer_images(
        self, call: Call, response: ImagesResponse, array: NDArray[np.float32], image_format: int
    ) -> None:
        """Add (N, H, W, C) in 0 … 1 in the form asked for, and answer; files are made on another thread."""
        if image_format == pb.IMAGE_FORMAT_PNG:
            self.offload(call, partial(self._answer_images, call, response, array, image_format), array.nbytes)
        else:
            self._answer_images(call, response, array, image_format)

    def _answer_images(
        self, call: Call, response: ImagesResponse, array: NDArray[np.float32], image_format: int
    ) -> None:
        images.fill(response.images, array, image_format)
        self.answer(call, response)

    def _run_files(self, call: Call, signature: str, message: pb.Images, done: Done) -> None:
        rows, count = self._pixels(call, signature, message, "images", self.limits.max_request_rows)
        self.run(call, signature, rows, count, done)

    def _pixels(self, call: Call, signature: str, message: pb.Images, field: str, limit: int) -> tuple[Buffer, int]:
        served = call.served
        assert served is not None  # noqa: S101 (as above)
        dtype = served.input_types[signature]
        if message.HasField("tensor"):
            convert, count = images.rows_of_tensor(message.tensor, field, served.image_shape, dtype, limit)
            data = message.tensor.data
            return (data if convert is None else convert(data)), count
        if not message.HasField("encoded"):
            raise InvalidArgumentError(field, "expected images as a tensor or as encoded files, got neither")
        pixels = images.PixelBudget(self.limits, call.check_wanted)
        return images.rows_of_files(message.encoded, f"{field}.encoded", served.image_shape, dtype, limit, pixels)

    def _run_sources(self, call: Call, sources: Sequence[Source], done: Callable[[list[Latents]], None]) -> None:
        served = call.served
        assert served is not None  # noqa: S101 (as above)
        latents: dict[str, Latents] = {}
        pixels: list[tuple[str, Buffer, int]] = []
        for source in sources:
            if source.images is not None:
                rows, count = self._pixels(call, "encode", source.images, source.field, source.limit_rows)
                pixels.append((source.field, rows, count))
            elif source.latents is not None:
                latents[source.field] = tensors.read_latents(
                    source.latents, source.field, served.latent_size, source.limit_rows
                )
        if not pixels:
            done([latents[source.field] for source in sources])
            return
        total = sum(count for _, _, count in pixels)
        joined = b"".join(rows for _, rows, _ in pixels)
        self.run(call, "encode", joined, total, Each(partial(_split, sources, latents, pixels, done)))


def _split(
    sources: Sequence[Source],
    latents: dict[str, Latents],
    pixels: Sequence[tuple[str, Buffer, int]],
    done: Callable[[list[Latents]], None],
    entry: Entry,
    outputs: Sequence[Array],
) -> None:
    del entry
    first = 0
    for field, _, count in pixels:
        latents[field] = outputs[0][first : first + count]
        first += count
    done([latents[source.field] for source in sources])


def _guarded(call: Call, job: Callable[[], None]) -> None:
    try:
        call.check_wanted()
        job()
    except Exception as error:  # noqa: BLE001 (it becomes the call's status)
        call.fail(error)
