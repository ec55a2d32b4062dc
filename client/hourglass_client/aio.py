"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar

import grpc
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.autoencoder_pb2_grpc import AutoencoderServiceStub

from hourglass_client import answers, requests, streams
from hourglass_client.channels import CLOSED_CHANNEL_ERRORS, ChannelSettings, Tls, channel_settings
from hourglass_client.errors import closed, from_call, inherited, unpicklable
from hourglass_client.pipelines import async_ordered_map
from hourglass_client.retries import Retry, deadline_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
    from types import TracebackType

    from autoencoder.v1.model_pb2 import Model
    from google.protobuf.message import Message
    from numpy.typing import ArrayLike

    from hourglass_client.errors import HourglassError
    from hourglass_client.images import ImageFormat, ImageInput
    from hourglass_client.requests import Interpolation, Posterior

Request = TypeVar("Request", bound="Message")
Response = TypeVar("Response", bound="Message")


def _open_channel(settings: ChannelSettings) -> grpc.aio.Channel:
    """A channel; it connects with the first call."""
    if settings.tls is None:
        return grpc.aio.insecure_channel(settings.target, settings.options)
    return grpc.aio.secure_channel(settings.target, settings.tls.credentials(), settings.options)


class AsyncClient:
    """Calls a server: arrays, PIL images or files in, arrays out. Make it inside the event loop.

    `model` may be empty when the server holds exactly one, `version` for the newest that works; `version` takes a
    number or a label. Images are (N, H, W), (N, H, W, C), or one image (H, W) or (H, W, C): uint8 in 0…255 or floating
    point in 0…1. Every method takes its own `timeout_seconds`, infinity for no deadline, and raises `HourglassError`s.
    """

    map = staticmethod(async_ordered_map)

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        timeout_seconds: float = 30.0,
        tls: Tls | None = None,
        token: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Prepares to call `address`: HOST:PORT, or several IP:PORT that share the load."""
        settings = channel_settings(address, tls, token)
        self._channel = _open_channel(settings)
        self._stub = AutoencoderServiceStub(self._channel)
        self._metadata = settings.metadata
        self._proxy_advice = settings.proxy_advice
        self._timeout_seconds = timeout_seconds
        self._retry = retry or Retry()
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

    async def encode(
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        posterior: Posterior = "mean",
        seed: int | None = None,
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Encoded:
        """Images to latents (N, D): the posterior's mean, or with posterior="sample" a draw from it."""
        request = requests.encode(images, model=model, version=version, posterior=posterior, seed=seed, resize=resize)
        return answers.Encoded.from_message(await self._call(self._stub.Encode, request, timeout_seconds))

    async def decode(
        self,
        latents: ArrayLike,
        *,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat = "uint8",
        timeout_seconds: float | None = None,
    ) -> answers.Decoded:
        """Latents (N, D) or (D,) to images (N, H, W, C)."""
        request = requests.decode(latents, model=model, version=version, form=image_format)
        return answers.Decoded.from_message(await self._call(self._stub.Decode, request, timeout_seconds))

    async def reconstruct(
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat = "uint8",
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Reconstructed:
        """Images through the bottleneck and back, with the squared error of each."""
        request = requests.reconstruct(images, model=model, version=version, form=image_format, resize=resize)
        return answers.Reconstructed.from_message(await self._call(self._stub.Reconstruct, request, timeout_seconds))

    async def denoise(
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat = "uint8",
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Denoised:
        """Noisy images to clean ones."""
        request = requests.denoise(images, model=model, version=version, form=image_format, resize=resize)
        return answers.Denoised.from_message(await self._call(self._stub.Denoise, request, timeout_seconds))

    async def sample(  # noqa: PLR0913 (the request's own fields)
        self,
        count: int,
        *,
        model: str = "",
        version: str | int = "",
        seed: int | None = None,
        temperature: float | None = None,
        include_latents: bool = False,
        first_index: int = 0,
        image_format: ImageFormat = "uint8",
        timeout_seconds: float | None = None,
    ) -> answers.Sampled:
        """New images; image i of a seed is the same whatever `count` is.

        With a seed, `first_index` continues where another call ended: more images than a server returns at once.
        """
        request = requests.sample(
            count,
            model=model,
            version=version,
            seed=seed,
            temperature=temperature,
            include_latents=include_latents,
            first_index=first_index,
            form=image_format,
        )
        return answers.Sampled.from_message(await self._call(self._stub.Sample, request, timeout_seconds))

    async def interpolate(  # noqa: PLR0913 (the request's own fields)
        self,
        *,
        from_images: ImageInput | None = None,
        from_latents: ArrayLike | None = None,
        to_images: ImageInput | None = None,
        to_latents: ArrayLike | None = None,
        steps: int = 10,
        model: str = "",
        version: str | int = "",
        interpolation: Interpolation = "linear",
        image_format: ImageFormat = "uint8",
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Interpolated:
        """Images along the path from one image or latent to another, both ends included."""
        request = requests.interpolate(
            from_images=from_images,
            from_latents=from_latents,
            to_images=to_images,
            to_latents=to_latents,
            steps=steps,
            model=model,
            version=version,
            interpolation=interpolation,
            form=image_format,
            resize=resize,
        )
        return answers.Interpolated.from_message(await self._call(self._stub.Interpolate, request, timeout_seconds))

    async def edit(  # noqa: PLR0913 (the request's own fields)
        self,
        shifts: Mapping[str, float],
        *,
        images: ImageInput | None = None,
        latents: ArrayLike | None = None,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat = "uint8",
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Edited:
        """Images or latents moved along attributes, in standard deviations: {"thickness": 1.5, "slant": -1}."""
        request = requests.edit(
            shifts, images=images, latents=latents, model=model, version=version, form=image_format, resize=resize
        )
        return answers.Edited.from_message(await self._call(self._stub.Edit, request, timeout_seconds))

    async def classify(
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Classified:
        """Class probabilities (N, K) of images."""
        request = requests.classify(images, model=model, version=version, resize=resize)
        return answers.Classified.from_message(await self._call(self._stub.Classify, request, timeout_seconds))

    async def list_models(self, *, timeout_seconds: float | None = None) -> tuple[Model, ...]:
        """Every loaded version of every model."""
        response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout_seconds)
        return tuple(response.models)

    async def get_model(
        self, model: str = "", version: str | int = "", *, timeout_seconds: float | None = None
    ) -> Model:
        """The version that calls with the same `model` and `version` reach."""
        request = pb.GetModelRequest(model_name=model, model_version=str(version))
        response = await self._call(self._stub.GetModel, request, timeout_seconds)
        return response.model

    async def stream(
        self, items: AsyncIterable[tuple[str, requests.Request]], *, timeout_seconds: float | None = None
    ) -> AsyncIterator[tuple[str, answers.Answer | HourglassError]]:
        """Many requests on one stream: the fastest way, with `hourglass_client.requests` to make them.

        A task of gRPC takes the `items` as fast as the server accepts them. Each answer comes as soon as it is ready,
        in any order, under the id of its request; a request that fails gets an error as its answer. A stream has no
        deadline unless `timeout_seconds` sets one, and is not retried.
        """
        if self._closed:
            raise closed()
        sent = streams.AsyncOutgoing(items)
        call = self._stub.Stream(aiter(sent), timeout=deadline_seconds(timeout_seconds), metadata=self._metadata)
        with streams.failures(call, sent, self._proxy_advice):
            async for message in call:
                yield streams.from_message(message)

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
