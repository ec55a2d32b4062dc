"""Results of the client's methods: arrays, and what served them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hourglass_client.images import Pictures, from_message
from hourglass_client.tensors import FloatArray, to_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from autoencoder.v1 import autoencoder_pb2 as pb
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ServingInfo:
    """What served a request."""

    model_name: str
    model_version: str
    queue_microseconds: int
    """Time spent waiting for a batch."""
    run_microseconds: int
    """Duration of the graph runs that the request was part of."""
    batch_size: int
    """Rows of the largest of these runs."""
    tiles: int = 0
    """Tiles that the images were cut into; 0 where none was cut."""
    exact: bool = True
    """Whether the outputs have the bits of whole images; always so where none was cut."""

    @classmethod
    def from_message(cls, message: pb.ServingInfo) -> ServingInfo:
        """From the wire."""
        return cls(
            message.model_name,
            message.model_version,
            message.queue_microseconds,
            message.run_microseconds,
            message.batch_size,
            message.tiles,
            message.exact or not message.tiles,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Answer of Encode."""

    latents: FloatArray
    """(N, D), or (N, h, w, c) from models with spatial latents; float16 if asked for."""
    log_variances: FloatArray | None
    """As latents, natural logarithm; None from models without a posterior."""
    seed: int | None
    """The seed used, when sampled."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.EncodeResponse) -> Encoded:
        """From the wire."""
        return cls(
            to_array(message.latents),
            to_array(message.log_variances) if message.HasField("log_variances") else None,
            message.seed if message.HasField("seed") else None,
            ServingInfo.from_message(message.info),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Pictures):
    """Answer of Decode."""

    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.DecodeResponse) -> Decoded:
        """From the wire."""
        return cls(*from_message(message.images), ServingInfo.from_message(message.info))


@dataclass(frozen=True, slots=True, eq=False)
class Reconstructed(Pictures):
    """Answer of Reconstruct."""

    squared_errors: FloatArray
    """(N,): mean squared error per pixel, images in 0…1."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.ReconstructResponse) -> Reconstructed:
        """From the wire."""
        return cls(
            *from_message(message.images), to_array(message.squared_errors), ServingInfo.from_message(message.info)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Denoised(Pictures):
    """Answer of Denoise."""

    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.DenoiseResponse) -> Denoised:
        """From the wire."""
        return cls(*from_message(message.images), ServingInfo.from_message(message.info))


@dataclass(frozen=True, slots=True, eq=False)
class Sampled(Pictures):
    """Answer of Sample."""

    latents: FloatArray | None
    """(N, D) or (N, h, w, c), when asked for."""
    seed: int
    """The seed used: the same seed and scheme give the same latents anywhere."""
    noise_scheme: str
    """Name of the noise generator."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.SampleResponse) -> Sampled:
        """From the wire."""
        return cls(
            *from_message(message.images),
            to_array(message.latents) if message.HasField("latents") else None,
            message.seed,
            message.noise_scheme,
            ServingInfo.from_message(message.info),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Interpolated(Pictures):
    """Answer of Interpolate."""

    latents: FloatArray
    """(steps, D) or (steps, h, w, c), both ends included."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.InterpolateResponse) -> Interpolated:
        """From the wire."""
        return cls(*from_message(message.images), to_array(message.latents), ServingInfo.from_message(message.info))


@dataclass(frozen=True, slots=True, eq=False)
class Edited(Pictures):
    """Answer of Edit."""

    latents: FloatArray
    """(N, D) or (N, h, w, c), after the moves."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.EditResponse) -> Edited:
        """From the wire."""
        return cls(*from_message(message.images), to_array(message.latents), ServingInfo.from_message(message.info))


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """Answer of Classify."""

    probabilities: FloatArray
    """(N, K), each row sums to 1."""
    labels: tuple[str, ...]
    """Class names, K of them."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.ClassifyResponse) -> Classified:
        """From the wire."""
        return cls(to_array(message.probabilities), tuple(message.labels), ServingInfo.from_message(message.info))


@dataclass(frozen=True, slots=True)
class Region:
    """A connected part of an image that stands out; its box in pixels."""

    image: int
    """Index of the image in the request."""
    top: int
    left: int
    height: int
    width: int
    score: float
    """Largest value of the map in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """Answer of Detect."""

    scores: FloatArray
    """(N,): how unusual each image is."""
    anomalous: NDArray[np.bool_]
    """(N,): whether each score is above `threshold`."""
    threshold: float
    map_threshold: float
    """Above it, pixels of the map belong to a region."""
    regions: tuple[Region, ...]
    """Of all images, in their order; of each the largest score first, at most 100."""
    maps: NDArray[Any]
    """(N, H, W, 1), larger where the image is stranger: float32, or scaled to uint8 or uint16, which begin at
    `Model.detection.map_low` and reach 128 of 255 at `map_threshold`; (0, 0, 0, 0) when the answer carries none."""
    map_files: tuple[bytes, ...]
    """The same as PNG files, N of them, for "png" and "png16"."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.DetectResponse) -> Detected:
        """From the wire."""
        return cls(
            to_array(message.scores),
            np.array(message.anomalous, bool),
            message.threshold,
            message.map_threshold,
            tuple(Region(r.image, r.top, r.left, r.height, r.width, r.score) for r in message.regions),
            *from_message(message.maps),
            ServingInfo.from_message(message.info),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Answer of Score."""

    log_likelihoods: FloatArray
    """(N,): lower bounds of log p(image) in nats, tighter with more samples."""
    seed: int
    """The seed used: the same seed gives the same bounds."""
    info: ServingInfo

    @classmethod
    def from_message(cls, message: pb.ScoreResponse) -> Scored:
        """From the wire."""
        return cls(to_array(message.log_likelihoods), message.seed, ServingInfo.from_message(message.info))


Answer = Encoded | Decoded | Reconstructed | Denoised | Sampled | Interpolated | Edited | Classified | Detected | Scored

# By the field of StreamResponse that carries the answer.
FROM_STREAM: dict[str, Callable[[Any], Answer]] = {
    "encode": Encoded.from_message,
    "decode": Decoded.from_message,
    "reconstruct": Reconstructed.from_message,
    "denoise": Denoised.from_message,
    "sample": Sampled.from_message,
    "interpolate": Interpolated.from_message,
    "edit": Edited.from_message,
    "classify": Classified.from_message,
    "detect": Detected.from_message,
    "score": Scored.from_message,
}
