"""Latents in half precision."""

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb

from server.codec import half
from server.errors import InvalidArgumentError, OutOfRangeError


def test_single_precision_unless_asked() -> None:
    latents = np.array([[0.1, 1e5]], np.float32)

    assert half.latents(latents, pb.LATENT_FORMAT_UNSPECIFIED, "latents") is latents
    assert half.latents(latents, pb.LATENT_FORMAT_FLOAT32, "latents") is latents


def test_half_precision() -> None:
    latents = np.array([[0.1, -65_504.0]], np.float32)

    halves = half.latents(latents, pb.LATENT_FORMAT_FLOAT16, "latents")

    assert halves.dtype == np.float16
    np.testing.assert_array_equal(halves, latents.astype(np.float16))


def test_what_half_precision_does_not_hold() -> None:
    with pytest.raises(
        OutOfRangeError, match=r"expected log_variances from -65504 .* got 65536: ask for LATENT_FORMAT"
    ):
        half.latents(np.array([65_536.0], np.float32), pb.LATENT_FORMAT_FLOAT16, "log_variances")


def test_an_unknown_format() -> None:
    with pytest.raises(InvalidArgumentError, match="expected one of LATENT_FORMAT_UNSPECIFIED"):
        half.check_format(9)
