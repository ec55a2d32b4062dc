"""Draws from the posterior of a VAE: seeds, and samples by reparameterisation."""

import secrets
from typing import Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from bundle import noise
from server.batching.output_check import NotFiniteError
from server.errors import InvalidArgumentError
from server.model_version import ModelVersion

# Seeds that the server draws are exact in JSON and JavaScript.
_SEED_LIMIT = 2**53


def draw_seed() -> int:
    """Draw a seed for a request without one."""
    return secrets.randbelow(_SEED_LIMIT)


def seed_of(request: pb.EncodeRequest, version: ModelVersion) -> int | None:
    """Seed of the draw that a request asks for; None for the mean.

    Raises:
        InvalidArgumentError: an unknown choice, or a draw from a model without a posterior.
    """
    if request.posterior in {pb.POSTERIOR_UNSPECIFIED, pb.POSTERIOR_MEAN}:
        return None
    if request.posterior != pb.POSTERIOR_SAMPLE:
        raise InvalidArgumentError(
            "posterior", f"expected one of {', '.join(pb.Posterior.keys())}, got {request.posterior}"
        )
    if not version.has_posterior:
        raise InvalidArgumentError(
            "posterior",
            f"expected POSTERIOR_MEAN, because model {version.name!r} of family {version.model.family!r} has no "
            "posterior to draw from, got POSTERIOR_SAMPLE",
        )
    return request.seed if request.HasField("seed") else draw_seed()


def sample(means: NDArray[Any], log_variances: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """(N, …) means and log variances to draws by reparameterisation; row i depends only on the seed and i.

    Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), section 2.4.

    Raises:
        NotFiniteError: a variance beyond what float32 holds.
    """
    rows = len(means)
    normals = noise.normals(seed, noise.Purpose.ENCODE, 0, rows, means.size // rows).reshape(means.shape)
    with np.errstate(over="ignore"):
        drawn = (means + np.exp(0.5 * log_variances.astype(np.float64)) * normals).astype(np.float32)
    if not np.isfinite(drawn).all():
        raise NotFiniteError
    return drawn
