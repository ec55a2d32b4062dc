"""What every RPC that runs a graph shares: find the model, read rows, queue them, answer.

The RPCs themselves are in `autoencoder.service`, `autoencoder.generation` and `open_inference`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias
from weakref import ref

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from server.batching.entry import Done, Each, Entry
from server.batching.executor import Executor
from server.calls.call import Call
from server.codec import images, tensors
from server.errors import InvalidArgumentError
from server.execution_config import LimitsConfig
from server.model_version import ModelVersion
from server.models.table import ModelTable, ServedModel
from server.parse_cache import PreparedRequest, Ready
from server.services.response_writer import serving_info
from server.types import Array, Buffer

Latents: TypeAlias = NDArray[np.float32]


class ModelRequest(Protocol):
    """A request that names a model."""

    model_name: str
    model_version: str


class ImagesRequest(ModelRequest, Protocol):
    """A request with images in it."""

    @property
    def images(self) -> pb.Images:
        """As a tensor or as files."""
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
    """Points of the latent space, given as images to encode or as latents; `field` is their name in the request."""

    field: str
    images: pb.Images | None
    latents: pb.Tensor | None
    limit_rows: int


class GraphCalls:
    """Runs graphs for calls."""

    def __init__(self, table: ModelTable, executor: Executor, limits: LimitsConfig) -> None:
        self.table = table
        self.limits = limits
        self._executor = executor

    def model(self, call: Call, request: ModelRequest, method: str) -> ServedModel:
        """Find the model that a request names, and check that it has the method."""
        served = self.table.get(request.model_name, request.model_version)
        call.served = served
        served.check(method)
        return served

    def run(self, call: Call, served: ServedModel, signature: str, rows: Buffer, count: int, done: Done) -> None:
        """Queue `count` rows for a graph; `done` gets its outputs."""
        served.batchers[signature].submit(Entry(call, rows, count, done), time.monotonic())

    def prepare_images(
        self,
        call: Call,
        served: ServedModel,
        request: ImagesRequest,
        signature: str,
        done: Done,
        *,
        repeats: bool = True,
    ) -> Ready | None:
        """Make a request's images ready for a graph; None for files, which another thread decodes and queues.

        `repeats` is as in `PreparedRequest`.
        """
        message = request.images
        if message.HasField("tensor"):
            data, limit = message.tensor.data, self.limits.max_request_rows
            dtype = served.input_types[signature]
            convert, count = images.rows_of_tensor(message.tensor, "images", served.image_shape, dtype, limit)
            names = (request.model_name, request.model_version)
            prepared = PreparedRequest(self.table, names, ref(served), signature, count, convert, done, repeats=repeats)
            return prepared, served, data
        if not message.HasField("encoded"):
            raise InvalidArgumentError("images", "expected images as a tensor or as encoded files, got neither")
        self.offload(call, partial(self._run_files, call, served, signature, message, done), message.ByteSize())
        return None

    def run_sources(
        self, call: Call, served: ServedModel, sources: Sequence[Source], done: Callable[[list[Latents]], None]
    ) -> None:
        """Turn each source into (N, D) latents, all images of the call in one run, and pass them to `done`."""
        encoded = [s.images for s in sources if s.images is not None and s.images.HasField("encoded")]
        if encoded:
            size_bytes = sum(message.ByteSize() for message in encoded)
            self.offload(call, partial(self._run_sources, call, served, sources, done), size_bytes)
        else:
            self._run_sources(call, served, sources, done)

    def offload(self, call: Call, job: Callable[[], None], size_bytes: int = 0) -> None:
        """Do slow work on data of this size on another thread, unless the call has ended by then.

        An exception of the work ends the call.

        Raises:
            OverloadedError: too many jobs are queued.
        """
        self._executor.offload(partial(_guarded, call, job), size_bytes, call.caller)

    def answer(self, call: Call, response: Response) -> None:
        """Add the ServingInfo and send the response."""
        response.info.CopyFrom(serving_info(call))
        call.answer(response.SerializeToString())

    def answer_images(
        self, call: Call, response: ImagesResponse, array: NDArray[np.float32], image_format: int
    ) -> None:
        """Add (N, H, W, C) in 0 … 1 in the requested format, and answer; files are encoded on another thread."""
        if image_format == pb.IMAGE_FORMAT_PNG:
            self.offload(call, partial(self._answer_images, call, response, array, image_format), array.nbytes)
        else:
            self._answer_images(call, response, array, image_format)

    def _answer_images(
        self, call: Call, response: ImagesResponse, array: NDArray[np.float32], image_format: int
    ) -> None:
        images.fill(response.images, array, image_format)
        self.answer(call, response)

    def _run_files(self, call: Call, served: ServedModel, signature: str, message: pb.Images, done: Done) -> None:
        rows, count = self._pixels(call, served, signature, message, "images", self.limits.max_request_rows)
        self.run(call, served, signature, rows, count, done)

    def _pixels(
        self, call: Call, version: ModelVersion, signature: str, message: pb.Images, field: str, limit: int
    ) -> tuple[Buffer, int]:
        dtype = version.input_types[signature]
        if message.HasField("tensor"):
            convert, count = images.rows_of_tensor(message.tensor, field, version.image_shape, dtype, limit)
            data = message.tensor.data
            return (data if convert is None else convert(data)), count
        if not message.HasField("encoded"):
            raise InvalidArgumentError(field, "expected images as a tensor or as encoded files, got neither")
        pixels = images.PixelBudget(self.limits, call.check_wanted)
        return images.rows_of_files(message.encoded, f"{field}.encoded", version.image_shape, dtype, limit, pixels)

    def _run_sources(
        self, call: Call, served: ServedModel, sources: Sequence[Source], done: Callable[[list[Latents]], None]
    ) -> None:
        latents: dict[str, Latents] = {}
        pixels: list[tuple[str, Buffer, int]] = []
        for source in sources:
            if source.images is not None:
                rows, count = self._pixels(call, served, "encode", source.images, source.field, source.limit_rows)
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
        entry = Entry(call, joined, total, Each(partial(_split, sources, latents, pixels, done)))
        entry.intermediate = True
        served.batchers["encode"].submit(entry, time.monotonic())


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
