"""Arguments of the client's methods to request messages; shared by both clients and by streams."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import ArrayLike

from hourglass_client.errors import invalid
from hourglass_client.images import HeldArray, ImageFormat, ImageInput, image_format, to_message
from hourglass_client.tensors import latents_tensor

Posterior = Literal["mean", "sample"]
Interpolation = Literal["linear", "spherical"]
LatentFormat = Literal["float32", "float16"]

# What a stream sends.
Request = (
    pb.EncodeRequest
    | pb.DecodeRequest
    | pb.ReconstructRequest
    | pb.DenoiseRequest
    | pb.SampleRequest
    | pb.InterpolateRequest
    | pb.EditRequest
    | pb.ClassifyRequest
    | pb.DetectRequest
    | pb.ScoreRequest
)

_POSTERIORS = {"mean": pb.POSTERIOR_MEAN, "sample": pb.POSTERIOR_SAMPLE}
_LATENT_FORMATS = {"float32": pb.LATENT_FORMAT_FLOAT32, "float16": pb.LATENT_FORMAT_FLOAT16}
_PATHS = {"linear": pb.INTERPOLATION_LINEAR, "spherical": pb.INTERPOLATION_SPHERICAL}


def encode(
    images: ImageInput | HeldArray,
    *,
    model: str = "",
    version: str | int = "",
    posterior: Posterior = "mean",
    seed: int | None = None,
    latent_format: LatentFormat = "float32",
    resize: bool = False,
) -> pb.EncodeRequest:
    """Request of Encode."""
    if latent_format not in _LATENT_FORMATS:
        raise invalid("latent_format", f"expected one of {', '.join(_LATENT_FORMATS)}, got {latent_format!r}")
    if posterior not in _POSTERIORS:
        raise invalid("posterior", f"expected one of {', '.join(_POSTERIORS)}, got {posterior!r}")
    return pb.EncodeRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        posterior=_POSTERIORS[posterior],
        seed=_uint64("seed", seed),
        latent_format=_LATENT_FORMATS[latent_format],
    )


def decode(
    latents: ArrayLike,
    *,
    model: str = "",
    version: str | int = "",
    height: int | None = None,
    width: int | None = None,
    form: ImageFormat | None = None,
) -> pb.DecodeRequest:
    """Request of Decode."""
    return pb.DecodeRequest(
        model_name=model,
        model_version=str(version),
        latents=latents_tensor("latents", latents),
        height=None if height is None else _int32("height", height),
        width=None if width is None else _int32("width", width),
        image_format=image_format(form),
    )


def reconstruct(
    images: ImageInput | HeldArray,
    *,
    model: str = "",
    version: str | int = "",
    form: ImageFormat | None = None,
    resize: bool = False,
) -> pb.ReconstructRequest:
    """Request of Reconstruct."""
    sent = to_message("images", images, resize=resize)
    return pb.ReconstructRequest(
        model_name=model, model_version=str(version), images=sent, image_format=image_format(form, sent)
    )


def denoise(
    images: ImageInput | HeldArray,
    *,
    model: str = "",
    version: str | int = "",
    noise_level: float | Sequence[float] | None = None,
    form: ImageFormat | None = None,
    resize: bool = False,
) -> pb.DenoiseRequest:
    """Request of Denoise."""
    sent = to_message("images", images, resize=resize)
    return pb.DenoiseRequest(
        model_name=model,
        model_version=str(version),
        images=sent,
        image_format=image_format(form, sent),
        noise_levels=() if noise_level is None else _levels(noise_level, sent),
    )


def sample(  # noqa: PLR0913 (the request's own fields)
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
    form: ImageFormat | None = None,
) -> pb.SampleRequest:
    """Request of Sample."""
    return pb.SampleRequest(
        model_name=model,
        model_version=str(version),
        count=_int32("count", count),
        seed=_uint64("seed", seed),
        temperature=temperature,
        include_latents=include_latents,
        image_format=image_format(form),
        first_index=_uint64("first_index", first_index),
        height=_int32("height", height),
        width=_int32("width", width),
    )


def interpolate(  # noqa: PLR0913 (the request's own fields)
    *,
    from_images: ImageInput | None = None,
    from_latents: ArrayLike | None = None,
    to_images: ImageInput | None = None,
    to_latents: ArrayLike | None = None,
    steps: int = 10,
    model: str = "",
    version: str | int = "",
    interpolation: Interpolation = "linear",
    form: ImageFormat | None = None,
    resize: bool = False,
) -> pb.InterpolateRequest:
    """Request of Interpolate."""
    _exactly_one(from_images=from_images, from_latents=from_latents)
    _exactly_one(to_images=to_images, to_latents=to_latents)
    if interpolation not in _PATHS:
        raise invalid("interpolation", f"expected one of {', '.join(_PATHS)}, got {interpolation!r}")
    ends = [
        None if end is None else to_message(field, end, resize=resize)
        for field, end in (("from_images", from_images), ("to_images", to_images))
    ]
    return pb.InterpolateRequest(
        model_name=model,
        model_version=str(version),
        from_images=ends[0],
        from_latents=None if from_latents is None else latents_tensor("from_latents", from_latents),
        to_images=ends[1],
        to_latents=None if to_latents is None else latents_tensor("to_latents", to_latents),
        steps=_int32("steps", steps),
        interpolation=_PATHS[interpolation],
        image_format=image_format(form, *ends),
    )


def edit(
    shifts: Mapping[str, float],
    *,
    images: ImageInput | None = None,
    latents: ArrayLike | None = None,
    model: str = "",
    version: str | int = "",
    form: ImageFormat | None = None,
    resize: bool = False,
) -> pb.EditRequest:
    """Request of Edit."""
    _exactly_one(images=images, latents=latents)
    sent = None if images is None else to_message("images", images, resize=resize)
    return pb.EditRequest(
        model_name=model,
        model_version=str(version),
        images=sent,
        latents=None if latents is None else latents_tensor("latents", latents),
        shifts=[pb.AttributeShift(attribute=name, amount=amount) for name, amount in shifts.items()],
        image_format=image_format(form, sent),
    )


def classify(
    images: ImageInput, *, model: str = "", version: str | int = "", resize: bool = False
) -> pb.ClassifyRequest:
    """Request of Classify."""
    return pb.ClassifyRequest(
        model_name=model, model_version=str(version), images=to_message("images", images, resize=resize)
    )


def detect(  # noqa: PLR0913 (the request's own fields)
    images: ImageInput | HeldArray,
    *,
    model: str = "",
    version: str | int = "",
    threshold: float | None = None,
    map_threshold: float | None = None,
    false_alarm_rate: float | None = None,
    map_format: ImageFormat = "none",
    resize: bool = False,
) -> pb.DetectRequest:
    """Request of Detect."""
    if threshold is not None and false_alarm_rate is not None:
        raise invalid("false_alarm_rate", "expected either threshold or false_alarm_rate, got both")
    return pb.DetectRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        threshold=threshold,
        map_threshold=map_threshold,
        false_alarm_rate=false_alarm_rate,
        map_format=image_format(map_format),
    )


def score(
    images: ImageInput,
    *,
    model: str = "",
    version: str | int = "",
    samples: int = 0,
    seed: int | None = None,
    first_index: int = 0,
    resize: bool = False,
) -> pb.ScoreRequest:
    """Request of Score."""
    return pb.ScoreRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        samples=_int32("samples", samples),
        seed=_uint64("seed", seed),
        first_index=_uint64("first_index", first_index),
    )


def _levels(noise_level: float | Sequence[float], images: pb.Images) -> list[float]:
    """One for all images, or one for each."""
    try:
        levels = np.atleast_1d(np.asarray(noise_level, np.float32))
    except (ValueError, TypeError) as error:
        raise invalid("noise_level", f"expected a number, or one for each image, got {noise_level!r}") from error
    shape = images.tensor.shape
    count = len(images.encoded.files) if images.HasField("encoded") else shape[0]
    # (N, H, W) and (H, W, C) look alike: the server tells them apart.
    if levels.ndim > 1 or len(levels) not in {1, count}:
        raise invalid("noise_level", f"expected one number, or one for each of {count} images, got {levels.size}")
    return levels.tolist()


def _exactly_one(**choices: object) -> None:
    if sum(choice is not None for choice in choices.values()) != 1:
        names = " and ".join(choices)
        raise invalid(next(iter(choices)), f"expected exactly one of {names}")


def _uint64(field: str, value: int | None) -> int | None:
    if value is not None and not 0 <= value < 2**64:
        raise invalid(field, f"expected 0 to 2^64 - 1, got {value}")
    return value


def _int32(field: str, value: int) -> int:
    if not -(2**31) <= value < 2**31:
        raise invalid(field, f"expected a 32-bit number, got {value}")
    return value
