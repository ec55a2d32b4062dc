"""RPCs that generate images from points of the latent space: Sample, Interpolate, Edit."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import ShapeError, Size

from bundle import latents, noise
from bundle.density.moves import Move
from server.batching.entry import Each
from server.calls.call import Call
from server.codec import images, tensors
from server.errors import InvalidArgumentError
from server.model_version import ModelVersion
from server.models.table import ServedModel
from server.services import sources
from server.services.autoencoder import interpolation
from server.services.autoencoder.posterior import draw_seed
from server.services.graph_calls import GraphCalls, ImagesResponse, Latents
from server.services.sources import Points, Source

# Computing this many numbers takes about as long as a small batch; more goes to another thread.
_HEAVY_NUMBERS = 4096
# Those along one attribute could be added up.
_MAX_SHIFTS = 1024
# Adding up so many numbers of shifts takes as long as computing one; the least that a shift counts for.
_ADDED_AS_ONE, _LEAST_OF_A_SHIFT = 64, 32
# Places of attributes in a model's statistics, and amounts.
Shifts: TypeAlias = Sequence[tuple[int, float]]


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
        shape = _sampled_shape(request, served)
        self._graphs.check_decoded(served, "count", request.count, shape)
        draw = partial(self._draw, call, request, served, seed, temperature, shape)
        self._compute(call, request.count * math.prod(shape), draw)

    def _draw(
        self,
        call: Call,
        request: pb.SampleRequest,
        served: ServedModel,
        seed: int,
        temperature: float,
        shape: tuple[int, ...],
    ) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            family, statistics, first, count = (
                served.model.family,
                served.statistics,
                request.first_index,
                request.count,
            )
            drawn = latents.draw(family, math.prod(shape), statistics, seed, first, count, temperature)
        assert drawn is not None  # noqa: S101 (without a density a version that has Sample is not loaded)
        drawn = drawn.reshape(count, *shape)
        tensors.check_latents(drawn, "temperature", "ask for a smaller one")
        answer = partial(self._drawn, call, request, served, seed)
        if "prior" in served.batchers:
            rows = np.ascontiguousarray(drawn).data
            self._graphs.run(call, served, "prior", rows, count, Each(lambda _, outputs: answer(outputs[0])))
        else:
            answer(drawn)

    def _drawn(self, call: Call, request: pb.SampleRequest, served: ServedModel, seed: int, points: Latents) -> None:
        response = pb.SampleResponse(seed=seed, noise_scheme=noise.SCHEME)
        if request.include_latents:
            tensors.fill(response.latents, points)
        size = (request.height, request.width) if served.shapes.free else None
        self._decode(call, served, points, response, request.image_format, size)

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
        sources.run(
            self._graphs,
            call,
            served,
            ends,
            lambda points: self._compute(
                call, request.steps * points[0].latents.size, partial(self._interpolate, call, request, served, points)
            ),
        )

    def _interpolate(self, call: Call, request: pb.InterpolateRequest, served: ServedModel, ends: list[Points]) -> None:
        start, stop = (end.latents[0] for end in ends)
        if start.shape != stop.shape:
            expected = f"expected ends of one shape, got latents of {start.shape} and {stop.shape}"
            raise InvalidArgumentError("to", f"{expected}: send images of one size")
        self._graphs.check_decoded(served, "steps", request.steps, start.shape)
        spherical = request.interpolation == pb.INTERPOLATION_SPHERICAL
        between = interpolation.spherical if spherical else interpolation.linear
        path = between(start.ravel(), stop.ravel(), request.steps).reshape(request.steps, *start.shape)
        response = pb.InterpolateResponse()
        tensors.fill(response.latents, path)
        size = ends[0].size if ends[0].size == ends[1].size else None
        self._decode(call, served, path, response, request.image_format, size)

    def edit(self, call: Call, request: pb.EditRequest) -> None:
        """Images moved along attribute directions."""
        served = self._graphs.model(call, request, "Edit")
        images.check_format(request.image_format)
        shifts = _shifts(served, request)
        job = partial(self._edit_along, call, request, served, shifts)
        if _cost_of_adding(served, shifts) > _HEAVY_NUMBERS:
            self._graphs.offload(call, job, request.ByteSize())
        else:
            job()

    def _edit_along(self, call: Call, request: pb.EditRequest, served: ServedModel, shifts: Shifts) -> None:
        assert served.statistics is not None  # noqa: S101 (the attributes are its)
        move = served.statistics.move(shifts)
        source = _source(request, "input", "images", "latents", self._graphs.limits.max_request_rows)
        sources.run(
            self._graphs,
            call,
            served,
            [source],
            lambda points: self._compute(
                call, points[0].latents.size, partial(self._edit, call, request, served, move, points)
            ),
        )

    def _edit(
        self,
        call: Call,
        request: pb.EditRequest,
        served: ServedModel,
        move: Move,
        points: list[Points],
    ) -> None:
        latents, size = points[0]
        self._graphs.check_decoded(served, "input", len(latents), latents.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            rows = latents.reshape(-1, len(move.vector))
            moved = move.of(rows).astype(np.float32).reshape(latents.shape)
        tensors.check_latents(moved, "shifts", "ask for smaller amounts")
        response = pb.EditResponse()
        tensors.fill(response.latents, moved)
        self._decode(call, served, moved, response, request.image_format, size)

    def _compute(self, call: Call, numbers: int, job: Callable[[], None]) -> None:
        """Compute latents of so many numbers at once, or on another thread if that would keep other calls waiting."""
        if numbers > _HEAVY_NUMBERS:
            self._graphs.offload(call, job)
        else:
            job()

    def _decode(
        self,
        call: Call,
        served: ServedModel,
        points: Latents,
        response: ImagesResponse,
        image_format: int,
        size: Size | None = None,
    ) -> None:
        """Decode and answer; what a code of a padded size decodes to is cropped to `size`."""
        height, width = size or (None, None)

        def done(decoded: images.ManyImages) -> None:
            self._graphs.answer_images(call, response, [image[:height, :width] for image in decoded], image_format)

        self._graphs.decode(call, served, points, done)


def _sampled_shape(request: pb.SampleRequest, version: ModelVersion) -> tuple[int, ...]:
    """Shape of the latents to draw: of images of the requested size, where sizes are free."""
    shapes = version.shapes
    asked = (request.height, request.width)
    if not shapes.free:
        if any(asked) and asked != shapes.image[:2]:
            expected = f"expected none, or those of the model, {shapes.image[0]} x {shapes.image[1]}"
            raise InvalidArgumentError("height", f"{expected}, got {asked[0]} x {asked[1]}")
        return shapes.latent
    if min(asked) < 1:
        raise InvalidArgumentError(
            "height", f"expected a height and a width for the images, got {asked[0]} x {asked[1]}"
        )
    try:
        shapes.check_size(*asked)
    except ShapeError as error:
        raise InvalidArgumentError("height", str(error)) from error
    return shapes.latents_of(*asked)


def _source(
    request: pb.InterpolateRequest | pb.EditRequest, oneof: str, image_field: str, latent_field: str, limit_rows: int
) -> Source:
    given: str | None = request.WhichOneof(oneof)  # pyright: ignore[reportArgumentType] (of one of the two)
    if given is None:
        raise InvalidArgumentError(oneof, f"expected {image_field} or {latent_field}, got neither")
    return Source(given, getattr(request, given), limit_rows)


def _shifts(version: ModelVersion, request: pb.EditRequest) -> Shifts:
    """The shifts asked for, by the places of their attributes in the model's statistics."""
    statistics = version.statistics
    names = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    if not 0 < len(request.shifts) <= _MAX_SHIFTS:
        raise InvalidArgumentError(
            "shifts", f"expected 1 to {_MAX_SHIFTS} shifts, along {', '.join(names)}, got {len(request.shifts)}"
        )
    places = {name: place for place, name in enumerate(names)}
    for index, shift in enumerate(request.shifts):
        if shift.attribute not in places:
            raise InvalidArgumentError(
                f"shifts[{index}].attribute", f"expected one of {', '.join(names)}, got {shift.attribute!r}"
            )
        if not math.isfinite(shift.amount):
            raise InvalidArgumentError(f"shifts[{index}].amount", f"expected a finite number, got {shift.amount}")
    return [(places[shift.attribute], shift.amount) for shift in request.shifts]


def _cost_of_adding(version: ModelVersion, shifts: Shifts) -> int:
    """What adding up these shifts to a move counts for, in computed numbers.

    A move is of one latent of the model flattened; with free sizes of the c values at a position. Maps count in full:
    their exponential is still to come.
    """
    statistics = version.statistics
    assert statistics is not None  # noqa: S101 (the attributes are its)
    size = statistics.latent_size
    each = size // _ADDED_AS_ONE if statistics.attribute_maps is None else size**2
    return len(shifts) * max(each, _LEAST_OF_A_SHIFT)
