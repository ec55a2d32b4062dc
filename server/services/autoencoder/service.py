"""autoencoder.v1.AutoencoderService: each RPC checks its request, submits rows to a graph, and answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias
from weakref import ref

from autoencoder.v1 import autoencoder_pb2 as pb

from server.batching.entry import Done, Each, Entry
from server.calls.call import Call
from server.calls.streaming import StreamMethod
from server.codec import half, images, tensors
from server.codec.prescan import Prescan
from server.endpoint import Method
from server.model_version import ModelVersion
from server.parse_cache import ParseCache, PreparedRequest, Ready
from server.services.autoencoder import posterior, stream
from server.services.autoencoder.detection import DetectCalls
from server.services.autoencoder.generation import Generation
from server.services.autoencoder.scoring import ScoreCalls
from server.services.autoencoder.shaped import ShapedCalls, answer_latents
from server.services.graph_calls import GraphCalls, ImagesRequest
from server.services.response_writer import OutputField, ResponseWriter, info_field, tensor_field
from server.types import Array

ImagesResponse: TypeAlias = pb.DecodeResponse | pb.DenoiseResponse | pb.ReconstructResponse

SERVICE: str = pb.DESCRIPTOR.services_by_name["AutoencoderService"].full_name


def methods(graphs: GraphCalls) -> list[Method | StreamMethod]:
    """Every RPC of the service."""
    service, generation, detection = AutoencoderService(graphs), Generation(graphs), DetectCalls(graphs)
    scoring = ScoreCalls(graphs)
    served: Sequence[tuple[str, Any, Callable[[Call, Any], Ready | None], Callable[[Any], bytes] | None]] = (
        ("Encode", pb.EncodeRequest, service.encode, _pixels),
        ("Decode", pb.DecodeRequest, service.decode, _latents),
        ("Reconstruct", pb.ReconstructRequest, service.reconstruct, _pixels),
        ("Denoise", pb.DenoiseRequest, service.denoise, _pixels),
        ("Classify", pb.ClassifyRequest, service.classify, _pixels),
        ("Detect", pb.DetectRequest, detection.detect, _pixels),
        ("Score", pb.ScoreRequest, scoring.score, None),
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
            handle,
            cache=data_of and ParseCache(request.FromString, data_of),
            prescan=Prescan(request, graphs.limits.max_request_rows),
        )
        for name, request, handle, data_of in served
    ]
    return [*unary, stream.method(SERVICE, unary, graphs.limits.max_request_rows)]


class AutoencoderService:
    """The RPCs that describe models, or run one graph on what the request brings."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs
        self._shaped = ShapedCalls(graphs)
        self._encoded = ResponseWriter(
            [tensor_field(pb.EncodeResponse, "latents", 0), tensor_field(pb.EncodeResponse, "log_variances", 1)],
            info=info_field(pb.EncodeResponse),
        )
        self._classified = ResponseWriter(
            [tensor_field(pb.ClassifyResponse, "probabilities", 0)], _labels, info_field(pb.ClassifyResponse)
        )
        errors = [tensor_field(pb.ReconstructResponse, "squared_errors", 1)]
        self._decoded = self._imaged(pb.DecodeResponse)
        self._denoised = self._imaged(pb.DenoiseResponse)
        self._reconstructed = self._imaged(pb.ReconstructResponse, errors)

    def encode(self, call: Call, request: pb.EncodeRequest) -> Ready | None:
        """Images to latent vectors: the posterior's mean, or a draw from it."""
        served = self._graphs.model(call, request, "Encode")
        seed = posterior.seed_of(request, served) if request.posterior else None
        half.check_format(request.latent_format)
        if "encode" in served.shaped:
            return self._shaped.encode(call, served, request, seed)
        # With a seed that the server draws, the next request like this one has another.
        repeats = seed is None or request.HasField("seed")
        plain = seed is None and request.latent_format != pb.LATENT_FORMAT_FLOAT16
        done = self._encoded if plain else Each(partial(self._encoded_otherwise, request.latent_format, seed))
        return self._graphs.prepare_images(call, served, request, "encode", done, repeats=repeats)

    def _encoded_otherwise(self, latent_format: int, seed: int | None, entry: Entry, outputs: Sequence[Array]) -> None:
        """Answer with a draw, or in half precision."""
        job = partial(answer_latents, self._graphs, entry.call, outputs, latent_format, seed)
        self._graphs.offload(entry.call, job)

    def decode(self, call: Call, request: pb.DecodeRequest) -> Ready | None:
        """Latent vectors to images."""
        served = self._graphs.model(call, request, "Decode")
        images.check_format(request.image_format)
        if "decode" in served.shaped:
            return self._shaped.decode(call, served, request)
        sent, limit = request.latents, self._graphs.limits.max_request_rows
        convert, count = tensors.rows_of_latents(sent, "latents", served.shapes, limit)
        names = (request.model_name, request.model_version)
        done = self._decoded[request.image_format]
        if request.HasField("height") or request.HasField("width"):
            done = Each(partial(self._cropped, images.crop_of(request, *served.shapes.image[:2]), request.image_format))
        prepared = PreparedRequest(self._graphs.table, names, ref(served), "decode", count, convert, done)
        return prepared, served, sent.data

    def _cropped(self, crop: tuple[slice, slice], image_format: int, entry: Entry, outputs: Sequence[Array]) -> None:
        self._graphs.answer_images(entry.call, pb.DecodeResponse(), outputs[0][:, *crop], image_format)

    def denoise(self, call: Call, request: pb.DenoiseRequest) -> Ready | None:
        """Noisy images to clean ones."""
        served = self._graphs.model(call, request, "Denoise")
        images.check_format(request.image_format)
        if "denoise" in served.shaped:
            return self._shaped.denoise(call, served, request)
        served.noise_levels(request.noise_levels, 1)
        done = self._denoised[request.image_format]
        return self._graphs.prepare_images(call, served, request, "denoise", done)

    def reconstruct(self, call: Call, request: pb.ReconstructRequest) -> Ready | None:
        """Images through the bottleneck and back, with the error of each."""
        served = self._graphs.model(call, request, "Reconstruct")
        images.check_format(request.image_format)
        if "reconstruct" in served.shaped:
            return self._shaped.reconstruct(call, served, request)
        done = self._reconstructed[request.image_format]
        return self._graphs.prepare_images(call, served, request, "reconstruct", done)

    def classify(self, call: Call, request: pb.ClassifyRequest) -> Ready | None:
        """Class probabilities of images."""
        served = self._graphs.model(call, request, "Classify")
        if "classify" in served.shaped:
            return self._shaped.classify(call, served, request)
        return self._graphs.prepare_images(call, served, request, "classify", self._classified)

    def _imaged(self, response: type[ImagesResponse], more: Sequence[OutputField] = ()) -> dict[int, Done]:
        """Callbacks that answer with images, by the requested format."""
        floats = tensor_field(response, "images.tensor", 0)
        pixels = tensor_field(response, "images.tensor", 0, pb.IMAGE_FORMAT_UINT8)
        words = tensor_field(response, "images.tensor", 0, pb.IMAGE_FORMAT_UINT16)
        info = info_field(response)
        return {
            pb.IMAGE_FORMAT_UNSPECIFIED: ResponseWriter([pixels, *more], info=info),
            pb.IMAGE_FORMAT_UINT8: ResponseWriter([pixels, *more], info=info),
            pb.IMAGE_FORMAT_UINT16: ResponseWriter([words, *more], info=info),
            pb.IMAGE_FORMAT_FLOAT32: ResponseWriter([floats, *more], info=info),
            pb.IMAGE_FORMAT_NONE: ResponseWriter(more, info=info),
            pb.IMAGE_FORMAT_PNG: Each(partial(self._drawn, response, pb.IMAGE_FORMAT_PNG)),
            pb.IMAGE_FORMAT_PNG16: Each(partial(self._drawn, response, pb.IMAGE_FORMAT_PNG16)),
        }

    def _drawn(
        self, response_type: type[ImagesResponse], image_format: int, entry: Entry, outputs: Sequence[Array]
    ) -> None:
        """Answer with image files."""
        response = response_type()
        if isinstance(response, pb.ReconstructResponse):
            tensors.fill(response.squared_errors, outputs[1])
        self._graphs.answer_images(entry.call, response, outputs[0], image_format)

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


def _pixels(request: ImagesRequest) -> bytes:
    return request.images.tensor.data


def _latents(request: pb.DecodeRequest) -> bytes:
    return request.latents.data


def _labels(version: ModelVersion, count: int, outputs: Sequence[Array]) -> bytes:
    del count, outputs
    return pb.ClassifyResponse(labels=version.model.labels).SerializeToString()
