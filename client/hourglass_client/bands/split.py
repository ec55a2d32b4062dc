"""Whether a request is too large for one message, and into which parts it is cut then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import Shapes

from hourglass_client.bands import sources
from hourglass_client.bands.detection import DetectJob
from hourglass_client.bands.jobs import (
    FORMATS,
    DecodeJob,
    DenoiseJob,
    EncodeJob,
    Job,
    ReconstructJob,
    check_one_size,
    signature_of,
)
from hourglass_client.bands.plan import windows
from hourglass_client.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autoencoder.v1.model_pb2 import Model, Signature

    from hourglass_client.bands.plan import Window
    from hourglass_client.bands.sources import Source
    from hourglass_client.images import HeldArray

IN_FLIGHT = 4
"""Bands that a call has on their way at a time: some run, and the others travel."""
# Of a band: those in flight keep a server busy, cost it little memory, and end long before the deadline of a call.
_BAND_PIXELS = 2**19
# Of a message, beside its images.
_ENVELOPE_BYTES = 64 * 1024
_JOBS: dict[type, type[Job]] = {
    pb.DenoiseRequest: DenoiseJob,
    pb.ReconstructRequest: ReconstructJob,
    pb.EncodeRequest: EncodeJob,
    pb.DecodeRequest: DecodeJob,
    pb.DetectRequest: DetectJob,
}
_FLOAT_BYTES = 4


def may_exceed(request: Any) -> bool:  # noqa: ANN401 (of any method)
    """Whether some model may take it in parts alone; False costs nothing, True that the model is looked at."""
    if type(request) not in _JOBS:
        return False
    return sources.may_exceed(request.latents if isinstance(request, pb.DecodeRequest) else request.images)


def job_of(request: Any, model: Model, message_bytes: int, held: HeldArray | None = None) -> Job | None:  # noqa: ANN401 (of any method)
    """The parts of a request that this model cannot take as a whole; None where it can, or must say why not.

    Raises:
        InvalidArgumentError: it is too large, and cannot be cut.
    """
    kind = _JOBS[type(request)]
    graph = signature_of(model, kind.signature)
    shapes = Shapes.of(model)
    if not shapes.free or not graph.name:
        return None
    items = _sources(request, shapes, held)
    if not items:
        return None
    cutter = _Cutter(request, shapes, graph, message_bytes - _ENVELOPE_BYTES)
    if cutter.fits(items):
        return None
    check_one_size(items, _format(request))
    for item in items:
        item.divided = not cutter.fits([item])
        if item.divided:
            cutter.check_divisible(item)
    return kind(request, model, items, cutter.windows)


def _format(request: Any) -> int:  # noqa: ANN401 (of any method)
    """As what images, or latents, come back."""
    if isinstance(request, pb.EncodeRequest):
        return pb.IMAGE_FORMAT_UINT8
    return request.map_format if isinstance(request, pb.DetectRequest) else request.image_format


def _sources(request: Any, shapes: Shapes, held: HeldArray | None) -> list[Source] | None:  # noqa: ANN401 (of any method)
    if not isinstance(request, pb.DecodeRequest):
        return sources.of_images(request.images, shapes, held)
    latents = tuple(request.latents.shape)
    if not shapes.spatial or latents[-1] != shapes.latent[-1]:
        return None
    _check_crop(request, latents, shapes.downsampling)
    return sources.of_latents(request.latents)


def _check_crop(request: pb.DecodeRequest, latents: Sequence[int], scale: int) -> None:
    """Refuse a size that the latents do not decode to."""
    for axis, cells in (("height", latents[1]), ("width", latents[2])):
        size = getattr(request, axis)
        if request.HasField(axis) and not 1 <= size <= cells * scale:
            raise invalid(axis, f"expected 1 to {cells * scale}, which the latents decode to, got {size}")


class _Cutter:
    """Cuts what a model does not take as a whole."""

    def __init__(self, request: Any, shapes: Shapes, graph: Signature, message_bytes: int) -> None:  # noqa: ANN401 (of any method)
        self._shapes = shapes
        self._graph = graph
        self._message_bytes = message_bytes
        self._sampled = isinstance(request, pb.EncodeRequest) and request.posterior == pb.POSTERIOR_SAMPLE
        self._scale = shapes.downsampling if isinstance(request, pb.DecodeRequest) else 1
        image = _FLOAT_BYTES * shapes.image[2]
        # Of a code and its variances, for each pixel.
        code = 2 * _FLOAT_BYTES * shapes.latent[-1] / shapes.downsampling**2 if shapes.spatial else 0.0
        self._band_bytes = max(image, code)
        if isinstance(request, pb.EncodeRequest):
            self._answer_bytes = code
        else:
            channels = 1 if isinstance(request, pb.DetectRequest) else shapes.image[2]
            self._answer_bytes = float(FORMATS[_format(request)][1] * channels)

    def fits(self, items: Sequence[Source]) -> bool:
        """Whether one request takes all of them."""
        request_bytes = sum(item.nbytes for item in items)
        answer_bytes = sum(self._pixels(item) for item in items) * self._answer_bytes
        return max(request_bytes, answer_bytes) <= self._message_bytes and not any(map(self._beyond, items))

    def windows(self, item: Source) -> Iterator[Window]:
        """The bands of an image."""
        shapes, scale = self._shapes, self._scale
        # A tile is larger than its halo, however far the graph sees.
        wanted = max(_BAND_PIXELS, (self._graph.tiling.tile * scale) ** 2)
        most = min(wanted, shapes.maximum_pixels, int(self._message_bytes / self._band_bytes))
        shortest = -(-max(shapes.minimum, shapes.multiple) // scale)
        try:
            yield from windows(item.size, self._graph.tiling, most // scale**2, shortest)
        except ValueError as error:
            raise self._too_large(item, f"its bands overlap too far: {error}") from error

    def _pixels(self, item: Source) -> int:
        return item.size[0] * item.size[1] * self._scale**2

    def _beyond(self, item: Source) -> bool:
        return self._pixels(item) > self._shapes.maximum_pixels

    def check_divisible(self, item: Source) -> None:
        """Refuse what cannot be cut."""
        if not self._graph.HasField("tiling"):
            raise self._too_large(item, "the model looks at the whole image, which cannot be sent in bands")
        if self._sampled:
            raise self._too_large(item, "a draw needs the whole image: take the mean and log_variances instead")

    def _too_large(self, item: Source, why: str) -> Exception:
        most = min(self._shapes.maximum_pixels, int(self._message_bytes / self._band_bytes))
        height, width = (side * self._scale for side in item.size)
        return invalid(
            "latents" if self._graph.name == "decode" else "images",
            f"expected at most {most} pixels in an image, got {height} x {width}: {why}",
        )
