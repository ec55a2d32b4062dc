"""RPCs that generate images from points of the latent space: Sample, Interpolate, Edit."""

import math
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from bundle import latents, noise
from server.batching.entry import Each, Entry
from server.batching.output_check import NotFiniteError
from server.calls.call import Call
from server.codec import images, tensors
from server.errors import InvalidArgumentError
from server.model_version import ModelVersion
from server.models.table import ServedModel
from server.services.autoencoder import interpolation
from server.services.graph_calls import GraphCalls, ImagesResponse, Latents, Source
from server.types import Array

# Seeds that the server draws are exact in JSON and JavaScript.
_SEED_LIMIT = 2**53
# Computing this many numbers takes about as long as a small batch; more goes to another thread.
_HEAVY_NUMBERS = 4096
# Those along one attribute could be added up.
_MAX_SHIFTS = 1024


def draw_seed() -> int:
    """Draw a seed for a request without one."""
    return secrets.randbelow(_SEED_LIMIT)


def sample_posterior(means: NDArray[Any], log_variances: NDArray[Any], seed: int) -> Latents:
    """(N, D) means and log variances to (N, D) draws by reparameterisation; row i depends only on the seed and i.

    Raises:
        NotFiniteError: a variance beyond what float32 holds.
    """
    normals = noise.normals(seed, noise.Purpose.ENCODE, 0, *means.shape)
    with np.errstate(over="ignore"):
        drawn = (means + np.exp(0.5 * log_variances.astype(np.float64)) * normals).astype(np.float32)
    if not np.isfinite(drawn).all():
        raise NotFiniteError
    return drawn


class Generation:
    """Images from latents that the server computes."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs

    def sample(self, call: Call, request: pb.SampleRequest) -> None:
        """New images from the model's latent density."""
        served = self._graphs.model(call, request, "Sample")
        images.check_format(request.image_format)
        limit = self._graphs.limits.max_request_rows
        temperature = request.temperature if request.HasField("temperature") else 1.0
        if not 1 <= request.count <= limit:
            raise InvalidArgumentError("count", f"expected 1 to {limit} images, got {request.count}")
        if not 0.0 <= temperature < math.inf:
            raise InvalidArgumentError("temperature", f"expected a finite number from 0, got {temperature:g}")
        seed = request.seed if request.HasField("seed") else draw_seed()
        self._compute(call, served, request.count, partial(self._draw, call, request, served, seed, temperature))

    def _draw(self, call: Call, request: pb.SampleRequest, served: ServedModel, seed: int, temperature: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            size, first, count = served.latent_size, request.first_index, request.count
            drawn = latents.draw(served.model.family, size, served.statistics, seed, first, count, temperature)
        assert drawn is not None  # noqa: S101 (without a density a version that has Sample is not loaded)
        tensors.check_latents(drawn, "temperature", "ask for a smaller one")
        response = pb.SampleResponse(seed=seed, noise_scheme=noise.SCHEME)
        if request.include_latents:
            tensors.fill(response.latents, drawn)
        self._decode(call, served, drawn, response, request.image_format)

    def interpolate(self, call: Call, request: pb.InterpolateRequest) -> None:
        """Images along the path between two points."""
        served = self._graphs.model(call, request, "Interpolate")
        images.check_format(request.image_format)
        limit = self._graphs.limits.max_request_rows
        if not 2 <= request.steps <= limit:  # noqa: PLR2004 (both ends)
            raise InvalidArgumentError("steps", f"expected 2 to {limit}, got {request.steps}")
        if request.interpolation not in pb.Interpolation.values():
            names = ", ".join(pb.Interpolation.keys())
            raise InvalidArgumentError("interpolation", f"expected one of {names}, got {request.interpolation}")
        ends = [_source(request, "from", "from_images", "from_latents", 1)]
        ends.append(_source(request, "to", "to_images", "to_latents", 1))
        self._graphs.run_sources(
            call,
            served,
            ends,
            lambda points: self._compute(
                call, served, request.steps, partial(self._interpolate, call, request, served, points)
            ),
        )

    def _interpolate(
        self, call: Call, request: pb.InterpolateRequest, served: ServedModel, ends: list[Latents]
    ) -> None:
        spherical = request.interpolation == pb.INTERPOLATION_SPHERICAL
        path = (interpolation.spherical if spherical else interpolation.linear)(ends[0][0], ends[1][0], request.steps)
        response = pb.InterpolateResponse()
        tensors.fill(response.latents, path)
        self._decode(call, served, path, response, request.image_format)

    def edit(self, call: Call, request: pb.EditRequest) -> None:
        """Images moved along attribute directions."""
        served = self._graphs.model(call, request, "Edit")
        images.check_format(request.image_format)
        move = _move(served, request)
        source = _source(request, "input", "images", "latents", self._graphs.limits.max_request_rows)
        self._graphs.run_sources(
            call,
            served,
            [source],
            lambda points: self._compute(
                call, served, len(points[0]), partial(self._edit, call, request, served, move, points)
            ),
        )

    def _edit(
        self,
        call: Call,
        request: pb.EditRequest,
        served: ServedModel,
        move: NDArray[np.float64],
        points: list[Latents],
    ) -> None:
        with np.errstate(over="ignore"):
            moved = (points[0] + move).astype(np.float32)
        tensors.check_latents(moved, "shifts", "ask for smaller amounts")
        response = pb.EditResponse()
        tensors.fill(response.latents, moved)
        self._decode(call, served, moved, response, request.image_format)

    def _compute(self, call: Call, served: ServedModel, rows: int, job: Callable[[], None]) -> None:
        """Compute `rows` latents at once, or on another thread if that would keep other calls waiting."""
        if rows * served.latent_size > _HEAVY_NUMBERS:
            self._graphs.offload(call, job)
        else:
            job()

    def _decode(
        self, call: Call, served: ServedModel, points: Latents, response: ImagesResponse, image_format: int
    ) -> None:
        done = Each(partial(self._decoded, response, image_format))
        self._graphs.run(call, served, "decode", np.ascontiguousarray(points).data, len(points), done)

    def _decoded(self, response: ImagesResponse, image_format: int, entry: Entry, outputs: Sequence[Array]) -> None:
        self._graphs.answer_images(entry.call, response, outputs[0], image_format)


def _source(
    request: pb.InterpolateRequest | pb.EditRequest, oneof: str, image_field: str, latent_field: str, limit_rows: int
) -> Source:
    given: str | None = request.WhichOneof(oneof)  # pyright: ignore[reportArgumentType] (of one of the two)
    if given is None:
        raise InvalidArgumentError(oneof, f"expected {image_field} or {latent_field}, got neither")
    value = getattr(request, given)
    return Source(given, value if given == image_field else None, value if given == latent_field else None, limit_rows)


def _move(version: ModelVersion, request: pb.EditRequest) -> NDArray[np.float64]:
    """(D,): the sum of the shifts."""
    statistics = version.statistics
    names = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    if not 0 < len(request.shifts) <= _MAX_SHIFTS:
        raise InvalidArgumentError(
            "shifts", f"expected 1 to {_MAX_SHIFTS} shifts, along {', '.join(names)}, got {len(request.shifts)}"
        )
    places = {name: place for place, name in enumerate(names)}
    move = np.zeros(version.latent_size)
    for index, shift in enumerate(request.shifts):
        if shift.attribute not in places or statistics is None:
            raise InvalidArgumentError(
                f"shifts[{index}].attribute", f"expected one of {', '.join(names)}, got {shift.attribute!r}"
            )
        if not math.isfinite(shift.amount):
            raise InvalidArgumentError(f"shifts[{index}].amount", f"expected a finite number, got {shift.amount}")
        move += shift.amount * statistics.attribute_directions[places[shift.attribute]]
    return move
