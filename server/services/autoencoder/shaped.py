"""RPCs of models of free sizes, and of graphs with a noise level: images one by one instead of rows of one shape."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb

from server.calls.call import Call
from server.codec import half, images, pixels, tensors
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.services.autoencoder.posterior import sample
from server.services.graph_calls import GraphCalls
from server.types import Array

# Per image, the outputs of the graph in its order.
Results: TypeAlias = list[list[Array]]
ImagesDone: TypeAlias = Callable[[Sequence[Array], Results], None]


class ShapedCalls:
    """Runs graphs on images of any size."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs

    def encode(self, call: Call, served: ServedModel, request: pb.EncodeRequest, seed: int | None) -> None:
        """Images of one size to latents: the posterior's mean, or with a seed a draw from it."""
        done = partial(self._encoded, call, served, request.latent_format, seed)
        self._run_images(call, served, request, "encode", done, "Encode returns one tensor: send one size a request")

    def _encoded(
        self,
        call: Call,
        served: ServedModel,
        latent_format: int,
        seed: int | None,
        items: Sequence[Array],
        results: Results,
    ) -> None:
        del items
        outputs = [np.stack(column) for column in zip(*results, strict=True)]
        served.drift.observe_codes(outputs[0])
        answer = partial(answer_latents, self._graphs, call, outputs, latent_format, seed)
        if seed is None:
            answer()
        else:
            # A draw takes longer than many runs.
            self._graphs.offload(call, answer)

    def decode(self, call: Call, served: ServedModel, request: pb.DecodeRequest) -> None:
        """Latents to images, cropped if a size is asked for."""
        limit = self._graphs.limits.max_request_rows
        latents = tensors.read_latents(request.latents, "latents", served.shapes, limit)
        self._graphs.check_decoded(served, "latents", len(latents), latents.shape[1:])
        height, width, _ = served.shapes.image_of(latents.shape[1:])
        crop = images.crop_of(request, height, width)

        def done(results: Results) -> None:
            decoded = [outputs[0][crop] for outputs in results]
            self._graphs.answer_images(call, pb.DecodeResponse(), decoded, request.image_format)

        served.shaped["decode"].submit(call, [*latents], done)

    def denoise(self, call: Call, served: ServedModel, request: pb.DenoiseRequest) -> None:
        """Noisy images to clean ones."""
        levels = request.noise_levels
        self._run_images(
            call, served, request, "denoise", partial(self._denoised, call, request.image_format), levels=levels
        )

    def _denoised(self, call: Call, image_format: int, items: Sequence[Array], results: Results) -> None:
        del items
        self._graphs.answer_images(call, pb.DenoiseResponse(), [outputs[0] for outputs in results], image_format)

    def reconstruct(self, call: Call, served: ServedModel, request: pb.ReconstructRequest) -> None:
        """Images through the bottleneck and back, with the error of each."""
        done = partial(self._reconstructed, call, served, request.image_format)
        self._run_images(call, served, request, "reconstruct", done)

    def _reconstructed(
        self, call: Call, served: ServedModel, image_format: int, items: Sequence[Array], results: Results
    ) -> None:
        response = pb.ReconstructResponse()
        reconstructions = [outputs[0] for outputs in results]
        errors = np.array(
            [pixels.squared_error(*pair) for pair in zip(items, reconstructions, strict=True)], np.float32
        )
        served.drift.observe_errors(errors)
        tensors.fill(response.squared_errors, errors)
        self._graphs.answer_images(call, response, reconstructions, image_format)

    def classify(self, call: Call, served: ServedModel, request: pb.ClassifyRequest) -> None:
        """Class probabilities of images."""

        def done(items: Sequence[Array], results: Results) -> None:
            del items
            response = pb.ClassifyResponse(labels=served.model.labels)
            tensors.fill(response.probabilities, np.stack([outputs[0] for outputs in results]))
            self._graphs.answer(call, response)

        self._run_images(call, served, request, "classify", done)

    def _run_images(
        self,
        call: Call,
        served: ServedModel,
        request: Any,  # noqa: ANN401 (a request with images)
        signature: str,
        done: ImagesDone,
        one_size: str = "",
        levels: Sequence[float] = (),
    ) -> None:
        """Run a graph on a request's images; files are decoded on another thread.

        `one_size`: why images of several sizes are refused.
        """
        image_format = getattr(request, "image_format", pb.IMAGE_FORMAT_NONE)
        if image_format not in images.SIZED_FORMATS:
            one_size = "ask for IMAGE_FORMAT_PNG or IMAGE_FORMAT_PNG16, or send one size a request"

        def run() -> None:
            items = self._graphs.arrays(
                call, served, signature, request.images, "images", self._graphs.limits.max_request_rows
            )
            if one_size and len({item.shape for item in items}) > 1:
                raise InvalidArgumentError("images", f"expected images of one size: {one_size}")
            checked = served.noise_levels(levels, len(items)) if signature == "denoise" else ()
            served.shaped[signature].submit(call, items, partial(done, items), checked)

        if request.images.HasField("encoded"):
            self._graphs.offload(call, run, request.images.ByteSize())
        else:
            run()


def answer_latents(
    graphs: GraphCalls, call: Call, outputs: Sequence[Array], latent_format: int, seed: int | None
) -> None:
    """Answer Encode with the mean, or with a seed with a draw, in the requested format; `outputs` as the graph's."""
    response = pb.EncodeResponse()
    latents = outputs[0]
    if seed is not None:
        response.seed = seed
        latents = sample(outputs[0], outputs[1], seed)
    tensors.fill(response.latents, half.latents(latents, latent_format, "latents"))
    for log_variances in outputs[1:]:
        tensors.fill(response.log_variances, half.latents(log_variances, latent_format, "log_variances"))
    graphs.answer(call, response)
