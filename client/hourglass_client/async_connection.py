"""The connection of the asyncio client: calls, retries, and images that go in bands."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.autoencoder_pb2_grpc import AutoencoderServiceStub

from hourglass_client.bands.split import IN_FLIGHT, job_of, may_exceed
from hourglass_client.channels import CLOSED_CHANNEL_ERRORS, ChannelSettings, Tls, channel_settings
from hourglass_client.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
    closed,
    from_call,
    inherited,
    unpicklable,
)
from hourglass_client.images import HeldArray
from hourglass_client.pipelines import async_apart, async_ordered_map
from hourglass_client.retries import Retry, deadline_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from autoencoder.v1.model_pb2 import Model
    from google.protobuf.message import Message

    from hourglass_client.answers import Answer
    from hourglass_client.bands.jobs import Job

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")


def _open_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """A channel; it connects with the first call."""
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.target, settings.options)
    return grpc.aio.secure_channel(settings.target, settings.tls.credentials(), settings.options)


class AsyncConnection:
    """A connection to a server, or to several that share the load."""

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        timeout_seconds: float = 30.0,
        tls: Tls | None = None,
        token: str | None = None,
        retry: Retry | None = None,
        message_bytes: int = 64 * 2**20,
    ) -> None:
        """Prepares to call `address`: HOST:PORT, several of them (a list, or by commas), or dns:///NAME:PORT.

        Several servers, those of a list or all that a name of dns:/// resolves to, get calls by their load and health.

        `message_bytes`: largest message, as the server's --max-message-bytes; larger images go in bands.
        """
        settings = channel_settings(address, tls, token)
        self._channel = _open_channel(settings)
        self._stub = AutoencoderServiceStub(self._channel)
        self._metadata = settings.metadata
        self._proxy_advice = settings.proxy_advice
        self._timeout_seconds = timeout_seconds
        self._retry = retry or Retry()
        self._message_bytes = message_bytes
        # By the name and version of requests: whether images go in bands depends on them.
        self._models: dict[tuple[str, str], Model | None] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise unpicklable()

    async def close(self) -> None:
        """Close the connection; calls in flight and later ones fail as cancelled."""
        self._closed = True
        await self._channel.close()

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_seconds: float | None,
    ) -> Response:
        """Call, and retry as the policy allows, within one deadline."""
        if self._closed:
            raise closed()
        end = time.monotonic() + (self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        for attempt in count(1):
            left = deadline_seconds(end - time.monotonic())
            try:
                return await method(request, timeout=left, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = from_call(error, self._proxy_advice)
                delay = self._retry.delay_seconds(failure, attempt)
                if delay is None or time.monotonic() + delay >= end:
                    raise failure from error
            except CLOSED_CHANNEL_ERRORS as error:
                raise (closed() if self._closed else inherited()) from error
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _answer(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Any],
        request: Any,  # noqa: ANN401 (of any method)
        kind: Any,  # noqa: ANN401 (the answer's class)
        timeout_seconds: float | None,
        *,
        progress: bool = False,
        images: object = None,
    ) -> Any:  # noqa: ANN401 (an instance of it)
        """The answer to one request, or to several where images are too large for one."""
        held = images if isinstance(images, HeldArray) else None
        job = await self._job(request, held, timeout_seconds) if may_exceed(request) else None
        while job is not None:
            try:
                return await self._in_parts(method, job, timeout_seconds, progress=progress)
            except NotFoundError:
                # Parts are asked of one version. Where it is gone, the whole is asked of the one that has come.
                gone = job.version
                job = await self._job(request, held, timeout_seconds, renew=True)
                if job is not None and job.version == gone:
                    raise
        if held is not None:
            held.fill(request.images)
        try:
            return kind.from_message(await self._call(method, request, timeout_seconds))
        except InvalidArgumentError:
            # Perhaps the model has been replaced by one of other sizes: the next call asks.
            self._models.pop((request.model_name, request.model_version), None)
            raise

    async def _job(
        self,
        request: Any,  # noqa: ANN401 (of any method)
        held: HeldArray | None,
        timeout_seconds: float | None,
        *,
        renew: bool = False,
    ) -> Job | None:
        """The parts of a request that its model cannot take as a whole; None where it can."""
        key = request.model_name, request.model_version
        if renew or key not in self._models:
            asked = pb.GetModelRequest(model_name=key[0], model_version=key[1])
            try:
                self._models[key] = (await self._call(self._stub.GetModel, asked, timeout_seconds)).model
            except (UnimplementedError, PermissionDeniedError):
                self._models[key] = None
        model = self._models[key]
        if model is None or model.height:
            return None
        job = await async_apart(partial(job_of, request, model, self._message_bytes, held))
        # Parts are asked of the version that is the newest now.
        return job if job is None or renew else await self._job(request, held, timeout_seconds, renew=True)

    async def _in_parts(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Any],
        job: Job,
        timeout_seconds: float | None,
        *,
        progress: bool,
    ) -> Answer:
        """Call for each part, some at a time; each has a deadline and retries of its own."""
        total = await async_apart(job.prepare)
        responses = async_ordered_map(
            lambda request: self._call(method, request, timeout_seconds),
            job.requests(),
            in_flight=IN_FLIGHT,
            progress=progress,
            total=total,
        )
        async for response in responses:
            job.take(response)
        return await async_apart(job.answer)
