"""What every RPC that runs a graph shares: find the model, read rows, queue them, answer.

The RPCs themselves are in `autoencoder.service`, `autoencoder.generation` and `open_inference`.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeAlias
from weakref import ref

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import ShapeError
from numpy.typing import NDArray

from server.batching.entry import Done, Each, Entry
from server.batching.executor import Executor
from server.calls.call import Call
from server.codec import images
from server.codec.pixels import range_of
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
            wanted = _graph_input(served, signature)
            convert, count = images.rows_of_tensor(message.tensor, "images", wanted, limit)
            names = (request.model_name, request.model_version)
            prepared = PreparedRequest(self.table, names, ref(served), signature, count, convert, done, repeats=repeats)
            return prepared, served, data
        _check_given(message, "images")
        self.offload(call, partial(self._run_files, call, served, signature, message, done), message.ByteSize())
        return None

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

    def decode(
        self, call: Call, served: ServedModel, points: Latents, done: Callable[[images.ManyImages], None]
    ) -> None:
        """Decode latents (N, D) or (N, h, w, c); `done` gets the images (H, W, C)."""
        if shaped := served.shaped.get("decode"):
            shaped.submit(call, [*points], lambda results: done([outputs[0] for outputs in results]))
        else:
            rows = np.ascontiguousarray(points).data
            self.run(call, served, "decode", rows, len(points), Each(lambda _, outputs: done(outputs[0])))

    def check_decoded(self, version: ModelVersion, field: str, count: int, latents: Sequence[int]) -> None:
        """Refuse `count` latents of a shape, (D,) or (h, w, c), of free sizes that decode to too many pixels.

        Raises:
            InvalidArgumentError: too many in all, or not latents of this model.
        """
        if not version.shapes.free:
            return
        try:
            height, width, _ = version.shapes.image_of(latents)
        except ShapeError as error:
            raise InvalidArgumentError(field, str(error)) from error
        most = self.limits.max_request_pixels
        if count * height * width > most:
            expected = f"expected at most {most} pixels in the images of a request"
            raise InvalidArgumentError(field, f"{expected}, got {count} of {height} x {width}: send several requests")

    def answer_images(
        self, call: Call, response: ImagesResponse, decoded: images.ManyImages, image_format: int
    ) -> None:
        """Add images (H, W, C) in 0 … 1 in the requested format, and answer; files are encoded on another thread."""
        job = partial(self._answer_images, call, response, decoded, image_format)
        if image_format in images.FILE_FORMATS:
            self.offload(call, job, sum(image.nbytes for image in decoded))
        else:
            job()

    def _answer_images(
        self, call: Call, response: ImagesResponse, decoded: images.ManyImages, image_format: int
    ) -> None:
        images.fill(response.images, decoded, image_format)
        self.answer(call, response)

    def arrays(
        self, call: Call, version: ModelVersion, signature: str, message: pb.Images, field: str, limit: int
    ) -> list[Array]:
        """Images of a request: (H, W, C) each, in the type that the graph takes; in a tensor of free sizes or files."""
        wanted = _graph_input(version, signature)
        if message.HasField("tensor"):
            return images.arrays_of_tensor(message.tensor, field, wanted, limit)
        _check_given(message, field)
        budget = images.PixelBudget(self.limits, call.check_wanted)
        return images.arrays_of_files(message.encoded, f"{field}.encoded", wanted, limit, budget)

    def _run_files(self, call: Call, served: ServedModel, signature: str, message: pb.Images, done: Done) -> None:
        rows, count = self.rows(call, served, signature, message, "images", self.limits.max_request_rows)
        self.run(call, served, signature, rows, count, done)

    def rows(
        self, call: Call, version: ModelVersion, signature: str, message: pb.Images, field: str, limit: int
    ) -> tuple[Buffer, int]:
        """Images of a request as rows of a graph of one size: a buffer and N."""
        if message.HasField("tensor"):
            convert, count = images.rows_of_tensor(message.tensor, field, _graph_input(version, signature), limit)
            data = message.tensor.data
            return (data if convert is None else convert(data)), count
        found = self.arrays(call, version, signature, message, field, limit)
        return np.stack(found).data, len(found)


def _graph_input(version: ModelVersion, signature: str) -> images.GraphInput:
    return images.GraphInput(version.shapes, version.input_types[signature], range_of(signature))


def _check_given(message: pb.Images, field: str) -> None:
    if not message.HasField("encoded"):
        raise InvalidArgumentError(field, "expected images as a tensor or as encoded files, got neither")


def _guarded(call: Call, job: Callable[[], None]) -> None:
    try:
        call.check_wanted()
        job()
    except Exception as error:  # noqa: BLE001 (it becomes the call's status)
        call.fail(error)
