"""autoencoder.v1.AutoencoderService: each RPC checks its request, hands rows to a graph, and answers."""

from functools import partial

from autoencoder.v1 import autoencoder_pb2 as pb

from server import images, tensor
from server.call import Call
from server.endpoint import Method
from server.errors import InvalidArgumentError
from server.models import ServedModel
from server.row_queue import Entry
from server.services import stream
from server.services.generation import Generation, draw_seed, sample_posterior
from server.services.graph_calls import GraphCalls
from server.streams import StreamMethod

SERVICE: str = pb.DESCRIPTOR.services_by_name["AutoencoderService"].full_name


def methods(graphs: GraphCalls) -> list[Method | StreamMethod]:
    """Every RPC of the service."""
    service, generation = AutoencoderService(graphs), Generation(graphs)
    served = (
        ("Encode", pb.EncodeRequest, service.encode),
        ("Decode", pb.DecodeRequest, service.decode),
        ("Reconstruct", pb.ReconstructRequest, service.reconstruct),
        ("Denoise", pb.DenoiseRequest, service.denoise),
        ("Classify", pb.ClassifyRequest, service.classify),
        ("Sample", pb.SampleRequest, generation.sample),
        ("Interpolate", pb.InterpolateRequest, generation.interpolate),
        ("Edit", pb.EditRequest, generation.edit),
        ("ListModels", pb.ListModelsRequest, service.list_models),
        ("GetModel", pb.GetModelRequest, service.get_model),
    )
    unary = [Method(name, f"/{SERVICE}/{name}", request.FromString, serve) for name, request, serve in served]
    return [*unary, stream.method(SERVICE, unary)]


class AutoencoderService:
    """The RPCs that describe models, or run one graph on what the request brings."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs

    def encode(self, call: Call, request: pb.EncodeRequest) -> None:
        """Images to latent vectors: the posterior's mean, or a draw from it."""
        served = self._graphs.model(call, request, "Encode")
        seed = None
        if request.posterior:
            seed = _posterior_seed(request, served)
        self._graphs.run_images(call, "encode", request.images, "images", partial(self._encoded, seed))

    def _encoded(self, seed: int | None, entry: Entry) -> None:
        call = entry.call
        if seed is not None:
            self._graphs.offload(call, partial(self._sampled, seed, entry))
            return
        response = pb.EncodeResponse()
        latents = tensor.fill(response.latents, entry.outputs[0])
        call.served.drift.add_latents(latents, entry.count)  # pyright: ignore[reportOptionalMemberAccess] (its rows have run)
        if len(entry.outputs) > 1:
            tensor.fill(response.log_variances, entry.outputs[1])
        self._graphs.answer(call, response)

    def _sampled(self, seed: int, entry: Entry) -> None:
        means, log_variances = entry.outputs
        entry.call.served.drift.add_latents(means.tobytes(), entry.count)  # pyright: ignore[reportOptionalMemberAccess]
        response = pb.EncodeResponse(seed=seed)
        tensor.fill(response.latents, sample_posterior(means, log_variances, seed))
        tensor.fill(response.log_variances, log_variances)
        self._graphs.answer(entry.call, response)

    def decode(self, call: Call, request: pb.DecodeRequest) -> None:
        """Latent vectors to images."""
        served = self._graphs.model(call, request, "Decode")
        images.check_format(request.image_format)
        limit = self._graphs.limits.max_request_rows
        latents = tensor.read_latents(request.latents, "latents", served.latent_size, limit)
        done = partial(self._imaged, pb.DecodeResponse, request.image_format)
        self._graphs.run(call, "decode", latents.data, len(latents), done)

    def denoise(self, call: Call, request: pb.DenoiseRequest) -> None:
        """Noisy images to clean ones."""
        self._graphs.model(call, request, "Denoise")
        images.check_format(request.image_format)
        done = partial(self._imaged, pb.DenoiseResponse, request.image_format)
        self._graphs.run_images(call, "denoise", request.images, "images", done)

    def _imaged(self, response: type[pb.DecodeResponse | pb.DenoiseResponse], image_format: int, entry: Entry) -> None:
        self._graphs.answer_images(entry.call, response(), entry.outputs[0], image_format)

    def reconstruct(self, call: Call, request: pb.ReconstructRequest) -> None:
        """Images through the bottleneck and back, with the error of each."""
        self._graphs.model(call, request, "Reconstruct")
        images.check_format(request.image_format)
        done = partial(self._reconstructed, request.image_format)
        self._graphs.run_images(call, "reconstruct", request.images, "images", done)

    def _reconstructed(self, image_format: int, entry: Entry) -> None:
        reconstructions, errors = entry.outputs
        response = pb.ReconstructResponse()
        data = tensor.fill(response.squared_errors, errors)
        entry.call.served.drift.add_errors(data, entry.count)  # pyright: ignore[reportOptionalMemberAccess] (as above)
        self._graphs.answer_images(entry.call, response, reconstructions, image_format)

    def classify(self, call: Call, request: pb.ClassifyRequest) -> None:
        """Class probabilities of images."""
        self._graphs.model(call, request, "Classify")
        self._graphs.run_images(call, "classify", request.images, "images", self._classified)

    def _classified(self, entry: Entry) -> None:
        response = pb.ClassifyResponse(labels=entry.call.served.model.labels)  # pyright: ignore[reportOptionalMemberAccess]
        tensor.fill(response.probabilities, entry.outputs[0])
        self._graphs.answer(entry.call, response)

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
            "posterior", f"wanted one of {', '.join(pb.Posterior.keys())}, got {request.posterior}"
        )
    if not served.has_posterior:
        raise InvalidArgumentError(
            "posterior",
            f"wanted POSTERIOR_MEAN, because model {served.name!r} of family {served.model.family!r} has no posterior "
            "to draw from, got POSTERIOR_SAMPLE",
        )
    return request.seed if request.HasField("seed") else draw_seed()
