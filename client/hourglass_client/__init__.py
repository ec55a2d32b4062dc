"""Typed client of the autoencoder service: arrays or images in, arrays out.

from hourglass_client import Client

with Client("127.0.0.1:8001") as client:
    encoded = client.encode(images, model="vae")      # (N, 28, 28) uint8 -> encoded.latents (N, D)
    decoded = client.decode(encoded.latents, model="vae")
"""

from hourglass_client.aio import AsyncClient
from hourglass_client.answers import (
    Classified,
    Decoded,
    Denoised,
    Detected,
    Edited,
    Encoded,
    Interpolated,
    Reconstructed,
    Region,
    Sampled,
    Scored,
    ServingInfo,
)
from hourglass_client.channels import Tls
from hourglass_client.client import Client
from hourglass_client.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    HourglassError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from hourglass_client.retries import Retry

__all__ = [
    "AsyncClient",
    "CancelledError",
    "Classified",
    "Client",
    "DeadlineExceededError",
    "Decoded",
    "Denoised",
    "Detected",
    "Edited",
    "Encoded",
    "FailedPreconditionError",
    "HourglassError",
    "InternalError",
    "Interpolated",
    "InvalidArgumentError",
    "NotFoundError",
    "PermissionDeniedError",
    "Reconstructed",
    "Region",
    "ResourceExhaustedError",
    "Retry",
    "Sampled",
    "Scored",
    "ServingInfo",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Violation",
]
