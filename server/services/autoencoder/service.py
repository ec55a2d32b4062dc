"""autoencoder.v1.AutoencoderService: each RPC checks its request, hands rows to a graph, and answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

from autoencoder.v1 import autoencoder_pb2 as pb

from server.batching.row_queue import Array, Done, Each, Entry
from server.calls.call import Call
from server.calls.streaming import StreamMethod
from server.codec import images, tensors
from server.endpoint import Method
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.parse_cache import Layouts
from server.services.autoencoder import stream
from server.services.autoencoder.generation import Generation, draw_seed, sample_posterior
from server.services.graph_calls import GraphCalls
from server.services.response_writer import Answers, Column, Note, column

ImagesResponse: TypeAlias = pb.DecodeResponse | pb.DenoiseResponse | pb.ReconstructResponse

SERVICE: str = pb.DESCRIPTOR.services_by_name["AutoencoderService"].full_name


def methods(graphs: GraphCalls) -> list[Method | StreamMethod]:
    """Every RPC of the service."""
    service, generation = AutoencoderService(graphs), Generation(graphs)
    served: Sequence[tuple[str, Any, Callable[[Call, Any], None], Callable[[Any], bytes] | None]] = (
        ("Encode", pb.EncodeRequest, service.encode, _pixels),
        ("Decode", pb.DecodeRequest, service.decode, _latents),
        ("Reconstruct", pb.ReconstructRequest, service.reconstruct, _pixels),
        ("Denoise", pb.DenoiseRequest, service.denoise, _pixels),
        ("Classify", pb.ClassifyRequest, service.classify, _pixels),
        ("Sample", pb.SampleRequest, generation.sample, None),
        ("Interpolate", pb.InterpolateRequest, generation.interpolate, None),
        ("Edit", pb.EditRequest, generation.edit, None),
        ("ListModels", pb.ListModelsRequest, service.list_models, None),
        ("GetModel", pb.GetModelRequest, service.get_model, None),
    )
    unary = [
        Method(
            name,
            f"/{SERVICE}/{name}",
            request.FromString,
            serve,
            layouts=data_of and Layouts(request.FromString, data_of),
        )
        for name, request, serve, data_of in served
    ]
    return [*unary, stream.method(SERVICE, unary)]


class AutoencoderService:
    """The RPCs that describe models, or run one graph on what the request brings."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs
        self._encoded = Answers(
            pb.EncodeResponse,
            [column(pb.EncodeResponse, "latents", 0), column(pb.EncodeResponse, "log_variances", 1)],
            _note_latents,
        )
        self._classified = Answers(
            pb.ClassifyResponse, [column(pb.ClassifyResponse, "probabilities", 0)], constant=_labels
        )
        errors = [column(pb.ReconstructResponse, "squared_errors", 1)]
        self._decoded = self._imaged(pb.DecodeResponse)
        self._denoised = self._imaged(pb.DenoiseResponse)
        self._reconstructed = self._imaged(pb.ReconstructResponse, errors, _note_errors)

    def encode(self, call: Call, request: pb.EncodeRequest) -> None:
        """Images to latent vectors: the posterior's mean, or a draw from it."""
        served = self._graphs.model(call, request, "Encode")
        seed = _posterior_seed(request, served) if request.posterior else None
        if seed is not None and not request.HasField("seed"):
            # The next request like this one has another seed.
            call.learn = None
        done = self._encoded if seed is None else Each(partial(self._encoded_sample, seed))
        self._graphs.run_images(call, request, "encode", done)

    def _encoded_sample(self, seed: int, entry: Entry, outputs: Sequence[Array]) -> None:
        self._graphs.offload(entry.call, partial(self._sampled, seed, entry.call, outputs))

    def _sampled(self, seed: int, call: Call, outputs: Sequence[Array]) -> None:
        means, log_variances = outputs
        _note_latents(_served(call), outputs)
        response = pb.EncodeResponse(seed=seed)
        tensors.fill(response.latents, sample_posterior(means, log_variances, seed))
        tensors.fill(response.log_variances, log_variances)
        self._graphs.answer(call, response)

    def decode(self, call: Call, request: pb.DecodeRequest) -> None:
        """Latent vectors to images."""
        served = self._graphs.model(call, request, "Decode")
        images.check_format(request.image_format)
        sent, limit = request.latents, self._graphs.limits.max_request_rows
        reading = tensors.rows_of_latents(sent, "latents", served.latent_size, limit)
        names = (request.model_name, request.model_version)
        self._graphs.run_data(call, names, "decode", sent.data, reading, self._decoded[request.image_format])

    def denoise(self, call: Call, request: pb.DenoiseRequest) -> None:
        """Noisy images to clean ones."""
        self._graphs.model(call, request, "Denoise")
        images.check_format(request.image_format)
        self._graphs.run_images(call, request, "denoise", self._denoised[request.image_format])

    def reconstruct(self, call: Call, request: pb.ReconstructRequest) -> None:
        """Images through the bottleneck and back, with the error of each."""
        self._graphs.model(call, request, "Reconstruct")
        images.check_format(request.image_format)
        self._graphs.run_images(call, request, "reconstruct", self._reconstructed[request.image_format])

    def classify(self, call: Call, request: pb.ClassifyRequest) -> None:
        """Class probabilities of images."""
        self._graphs.model(call, request, "Classify")
        self._graphs.run_images(call, request, "classify", self._classified)

    def _imaged(
        self, response: type[ImagesResponse], more: Sequence[Column] = (), note: Note | None = None
    ) -> dict[int, Done]:
        """How images leave, by the format asked for."""
        floats = column(response, "images.tensor", 0)
        pixels = column(response, "images.tensor", 0, to_bytes=True)
        return {
            pb.IMAGE_FORMAT_UNSPECIFIED: Answers(response, [pixels, *more], note),
            pb.IMAGE_FORMAT_UINT8: Answers(response, [pixels, *more], note),
            pb.IMAGE_FORMAT_FLOAT32: Answers(response, [floats, *more], note),
            pb.IMAGE_FORMAT_NONE: Answers(response, more, note),
            pb.IMAGE_FORMAT_PNG: Each(partial(self._drawn, response, note)),
        }

    def _drawn(
        self, response_type: type[ImagesResponse], note: Note | None, entry: Entry, outputs: Sequence[Array]
    ) -> None:
        """Answer with image files."""
        response = response_type()
        if isinstance(response, pb.ReconstructResponse):
            tensors.fill(response.squared_errors, outputs[1])
        if note is not None:
            note(_served(entry.call), outputs)
        self._graphs.answer_images(entry.call, response, outputs[0], pb.IMAGE_FORMAT_PNG)

    def list_models(self, call: Call, request: pb.ListModelsRequest) -> None:
        """Every loaded version of every model."""
        del request
        models = [served.model for served in self._graphs.table.all()]
        call.answer(pb.ListModelsResponse(models=models).SerializeToString())

    def get_model(self, call: Call, request: pb.GetModelRequest) -> None:
        """One loaded version."""
        served = self._graphs.table.get(request.model_name, request.model_version)
        call.served = served
        call.answer(pb.GetModelResponse(model=served.model).SerializeToString())


def _posterior_seed(request: pb.EncodeRequest, served: ServedModel) -> int | None:
    """Seed of the draw; None for the mean."""
    if request.posterior == pb.POSTERIOR_MEAN:
        return None
    if request.posterior != pb.POSTERIOR_SAMPLE:
        raise InvalidArgumentError(
            "posterior", f"expected one of {', '.join(pb.Posterior.keys())}, got {request.posterior}"
        )
    if not served.has_posterior:
        raise InvalidArgumentError(
            "posterior",
            f"expected POSTERIOR_MEAN, because model {served.name!r} of family {served.model.family!r} has no "
            "posterior to draw from, got POSTERIOR_SAMPLE",
        )
    return request.seed if request.HasField("seed") else draw_seed()


def _pixels(request: pb.EncodeRequest | pb.ReconstructRequest | pb.DenoiseRequest | pb.ClassifyRequest) -> bytes:
    return request.images.tensor.data


def _latents(request: pb.DecodeRequest) -> bytes:
    return request.latents.data


def _labels(served: ServedModel) -> bytes:
    return pb.ClassifyResponse(labels=served.model.labels).SerializeToString()


def _note_latents(served: ServedModel, outputs: Sequence[Array]) -> None:
    served.drift.add_latents(outputs[0].tobytes(), len(outputs[0]))


def _note_errors(served: ServedModel, outputs: Sequence[Array]) -> None:
    served.drift.add_errors(outputs[1].tobytes(), len(outputs[1]))


def _served(call: Call) -> ServedModel:
    assert call.served is not None  # noqa: S101 (its rows have run)
    return call.served
