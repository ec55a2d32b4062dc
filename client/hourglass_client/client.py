# Generated from aio.py by client/unasync.py: edit aio.py and run `make unasync`.
"""The client for blocking code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoencoder.v1 import autoencoder_pb2 as pb

from hourglass_client import answers, requests, streams
from hourglass_client.connection import Connection
from hourglass_client.errors import closed
from hourglass_client.images import held
from hourglass_client.pipelines import ordered_map
from hourglass_client.retries import deadline_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from autoencoder.v1.model_pb2 import Model
    from numpy.typing import ArrayLike

    from hourglass_client.errors import HourglassError
    from hourglass_client.images import ImageFormat, ImageInput
    from hourglass_client.requests import Interpolation, LatentFormat, Posterior


class Client(Connection):
    """Calls a server: arrays, PIL images or files in, arrays out. Safe to share between threads.

    `model` may be empty when the server holds exactly one, `version` for the newest that works; `version` takes a
    number or a label. Images are (N, H, W), (N, H, W, C), or one image (H, W) or (H, W, C): uint8 in 0…255, uint16 in
    0…65,535 or floating point in 0…1. They come back as `image_format`, by default uint16 for uint16 and else uint8.
    Every method takes its own `timeout_seconds`, infinity for no deadline, and raises `HourglassError`s. Where a model
    takes images of any size, those too large for one request go in bands, each with its own deadline (encode, decode,
    reconstruct, denoise, detect); `progress` shows a bar for them (tqdm).
    """

    map = staticmethod(ordered_map)

    def encode(  # noqa: PLR0913 (the request's own fields)
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        posterior: Posterior = "mean",
        seed: int | None = None,
        latent_format: LatentFormat = "float32",
        resize: bool = False,
        progress: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Encoded:
        """Images to latents (N, D) or (N, h, w, c): the posterior's mean, or with posterior="sample" a draw from it."""
        sent = held("images", images)
        request = requests.encode(
            sent,
            model=model,
            version=version,
            posterior=posterior,
            seed=seed,
            latent_format=latent_format,
            resize=resize,
        )
        method, kind = self._stub.Encode, answers.Encoded
        return self._answer(method, request, kind, timeout_seconds, progress=progress, images=sent)

    def decode(  # noqa: PLR0913 (the request's own fields)
        self,
        latents: ArrayLike,
        *,
        model: str = "",
        version: str | int = "",
        height: int | None = None,
        width: int | None = None,
        image_format: ImageFormat | None = None,
        progress: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Decoded:
        """Latents (N, D) or (N, h, w, c), or those of one image, to images (N, H, W, C).

        `height` and `width` crop: the latents of an image are those of its padded size.
        """
        request = requests.decode(latents, model=model, version=version, height=height, width=width, form=image_format)
        return self._answer(self._stub.Decode, request, answers.Decoded, timeout_seconds, progress=progress)

    def reconstruct(
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat | None = None,
        resize: bool = False,
        progress: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Reconstructed:
        """Images through the bottleneck and back, with the squared error of each."""
        sent = held("images", images)
        request = requests.reconstruct(sent, model=model, version=version, form=image_format, resize=resize)
        method, kind = self._stub.Reconstruct, answers.Reconstructed
        return self._answer(method, request, kind, timeout_seconds, progress=progress, images=sent)

    def denoise(  # noqa: PLR0913 (the request's own fields)
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        noise_level: float | Sequence[float] | None = None,
        image_format: ImageFormat | None = None,
        resize: bool = False,
        progress: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Denoised:
        """Noisy images to clean ones; `noise_level`, of all or of each, is a standard deviation in pixels of 0…1."""
        sent = held("images", images)
        request = requests.denoise(
            sent, model=model, version=version, noise_level=noise_level, form=image_format, resize=resize
        )
        method, kind = self._stub.Denoise, answers.Denoised
        return self._answer(method, request, kind, timeout_seconds, progress=progress, images=sent)

    def sample(  # noqa: PLR0913 (the request's own fields)
        self,
        count: int,
        *,
        model: str = "",
        version: str | int = "",
        seed: int | None = None,
        temperature: float | None = None,
        include_latents: bool = False,
        first_index: int = 0,
        height: int = 0,
        width: int = 0,
        image_format: ImageFormat | None = None,
        timeout_seconds: float | None = None,
    ) -> answers.Sampled:
        """New images; image i of a seed is the same whatever `count` is.

        With a seed, `first_index` continues where another call ended: more images than a server returns at once.
        `height` and `width` are for models of free sizes.
        """
        request = requests.sample(
            count,
            model=model,
            version=version,
            seed=seed,
            temperature=temperature,
            include_latents=include_latents,
            first_index=first_index,
            height=height,
            width=width,
            form=image_format,
        )
        return self._answer(self._stub.Sample, request, answers.Sampled, timeout_seconds)

    def interpolate(  # noqa: PLR0913 (the request's own fields)
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
        image_format: ImageFormat | None = None,
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
        return self._answer(self._stub.Interpolate, request, answers.Interpolated, timeout_seconds)

    def edit(  # noqa: PLR0913 (the request's own fields)
        self,
        shifts: Mapping[str, float],
        *,
        images: ImageInput | None = None,
        latents: ArrayLike | None = None,
        model: str = "",
        version: str | int = "",
        image_format: ImageFormat | None = None,
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Edited:
        """Images or latents moved along attributes, in standard deviations: {"thickness": 1.5, "slant": -1}."""
        request = requests.edit(
            shifts, images=images, latents=latents, model=model, version=version, form=image_format, resize=resize
        )
        return self._answer(self._stub.Edit, request, answers.Edited, timeout_seconds)

    def classify(
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
        return self._answer(self._stub.Classify, request, answers.Classified, timeout_seconds)

    def detect(  # noqa: PLR0913 (the request's own fields)
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        threshold: float | None = None,
        map_threshold: float | None = None,
        false_alarm_rate: float | None = None,
        map_format: ImageFormat = "none",
        resize: bool = False,
        progress: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Detected:
        """Anomaly scores of images, which of them are anomalous, and where: regions, and maps in `map_format`.

        The thresholds are the calibrated ones of the model's default rate of false alarms, unless `false_alarm_rate`
        picks others, or `threshold` (of the score) and `map_threshold` (of the map, for regions) set them.
        """
        sent = held("images", images)
        request = requests.detect(
            sent,
            model=model,
            version=version,
            threshold=threshold,
            map_threshold=map_threshold,
            false_alarm_rate=false_alarm_rate,
            map_format=map_format,
            resize=resize,
        )
        method, kind = self._stub.Detect, answers.Detected
        return self._answer(method, request, kind, timeout_seconds, progress=progress, images=sent)

    def score(  # noqa: PLR0913 (the request's own fields)
        self,
        images: ImageInput,
        *,
        model: str = "",
        version: str | int = "",
        samples: int = 0,
        seed: int | None = None,
        first_index: int = 0,
        resize: bool = False,
        timeout_seconds: float | None = None,
    ) -> answers.Scored:
        """Log-likelihoods of images in nats: importance-weighted bounds of so many `samples` an image, 64 by default.

        With a seed, `first_index` continues where another call ended: more images than a server scores at once.
        """
        request = requests.score(
            images, model=model, version=version, samples=samples, seed=seed, first_index=first_index, resize=resize
        )
        return self._answer(self._stub.Score, request, answers.Scored, timeout_seconds)

    def list_models(self, *, timeout_seconds: float | None = None) -> tuple[Model, ...]:
        """Every loaded version of every model."""
        response = self._call(self._stub.ListModels, pb.ListModelsRequest(), timeout_seconds)
        return tuple(response.models)

    def get_model(self, model: str = "", version: str | int = "", *, timeout_seconds: float | None = None) -> Model:
        """The version that calls with the same `model` and `version` reach."""
        request = pb.GetModelRequest(model_name=model, model_version=str(version))
        response = self._call(self._stub.GetModel, request, timeout_seconds)
        return response.model

    def stream(
        self, items: Iterable[tuple[str, requests.Request]], *, timeout_seconds: float | None = None
    ) -> Iterator[tuple[str, answers.Answer | HourglassError]]:
        """Many requests on one stream: the fastest way, with `hourglass_client.requests` to make them.

        A thread of gRPC takes the `items` as fast as the server accepts them. Each answer comes as soon as it is ready,
        in any order, under the id of its request; a request that fails gets an error as its answer. A stream has no
        deadline unless `timeout_seconds` sets one, and is not retried.
        """
        if self._closed:
            raise closed()
        sent = streams.Outgoing(items)
        call = self._stub.Stream(iter(sent), timeout=deadline_seconds(timeout_seconds), metadata=self._metadata)
        with streams.failures(call, sent, self._proxy_advice):
            for message in call:
                yield streams.from_message(message)
