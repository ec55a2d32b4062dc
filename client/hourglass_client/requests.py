"""Arguments of the client's methods to request messages; shared by both clients and by streams."""

from collections.abc import Mapping
from typing import Literal

from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import ArrayLike

from hourglass_client.errors import invalid
from hourglass_client.images import ImageFormat, ImageInput, image_format, to_message
from hourglass_client.tensors import latents_tensor

Posterior = Literal["mean", "sample"]
Interpolation = Literal["linear", "spherical"]

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
)

_POSTERIORS = {"mean": pb.POSTERIOR_MEAN, "sample": pb.POSTERIOR_SAMPLE}
_PATHS = {"linear": pb.INTERPOLATION_LINEAR, "spherical": pb.INTERPOLATION_SPHERICAL}


def encode(
    images: ImageInput,
    *,
    model: str = "",
    version: str | int = "",
    posterior: Posterior = "mean",
    seed: int | None = None,
    resize: bool = False,
) -> pb.EncodeRequest:
    """Request of Encode."""
    if posterior not in _POSTERIORS:
        raise invalid("posterior", f"expected one of {', '.join(_POSTERIORS)}, got {posterior!r}")
    return pb.EncodeRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        posterior=_POSTERIORS[posterior],
        seed=_uint64("seed", seed),
    )


def decode(
    latents: ArrayLike, *, model: str = "", version: str | int = "", form: ImageFormat = "uint8"
) -> pb.DecodeRequest:
    """Request of Decode."""
    return pb.DecodeRequest(
        model_name=model,
        model_version=str(version),
        latents=latents_tensor("latents", latents),
        image_format=image_format(form),
    )


def reconstruct(
    images: ImageInput, *, model: str = "", version: str | int = "", form: ImageFormat = "uint8", resize: bool = False
) -> pb.ReconstructRequest:
    """Request of Reconstruct."""
    return pb.ReconstructRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        image_format=image_format(form),
    )


def denoise(
    images: ImageInput, *, model: str = "", version: str | int = "", form: ImageFormat = "uint8", resize: bool = False
) -> pb.DenoiseRequest:
    """Request of Denoise."""
    return pb.DenoiseRequest(
        model_name=model,
        model_version=str(version),
        images=to_message("images", images, resize=resize),
        image_format=image_format(form),
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
    form: ImageFormat = "uint8",
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
    form: ImageFormat = "uint8",
    resize: bool = False,
) -> pb.InterpolateRequest:
    """Request of Interpolate."""
    _exactly_one(from_images=from_images, from_latents=from_latents)
    _exactly_one(to_images=to_images, to_latents=to_latents)
    if interpolation not in _PATHS:
        raise invalid("interpolation", f"expected one of {', '.join(_PATHS)}, got {interpolation!r}")
    return pb.InterpolateRequest(
        model_name=model,
        model_version=str(version),
        from_images=None if from_images is None else to_message("from_images", from_images, resize=resize),
        from_latents=None if from_latents is None else latents_tensor("from_latents", from_latents),
        to_images=None if to_images is None else to_message("to_images", to_images, resize=resize),
        to_latents=None if to_latents is None else latents_tensor("to_latents", to_latents),
        steps=_int32("steps", steps),
        interpolation=_PATHS[interpolation],
        image_format=image_format(form),
    )


def edit(
    shifts: Mapping[str, float],
    *,
    images: ImageInput | None = None,
    latents: ArrayLike | None = None,
    model: str = "",
    version: str | int = "",
    form: ImageFormat = "uint8",
    resize: bool = False,
) -> pb.EditRequest:
    """Request of Edit."""
    _exactly_one(images=images, latents=latents)
    return pb.EditRequest(
        model_name=model,
        model_version=str(version),
        images=None if images is None else to_message("images", images, resize=resize),
        latents=None if latents is None else latents_tensor("latents", latents),
        shifts=[pb.AttributeShift(attribute=name, amount=amount) for name, amount in shifts.items()],
        image_format=image_format(form),
    )


def classify(
    images: ImageInput, *, model: str = "", version: str | int = "", resize: bool = False
) -> pb.ClassifyRequest:
    """Request of Classify."""
    return pb.ClassifyRequest(
        model_name=model, model_version=str(version), images=to_message("images", images, resize=resize)
    )


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
