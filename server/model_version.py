"""The facts of a model version that a request needs to know; what runs it is in `models/table.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import Model

from bundle.latents import LatentStatistics
from server.errors import WrongMethodError


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelVersion:
    """One version of a model: its description and what follows from it."""

    model: Model
    input_types: Mapping[str, np.dtype[Any]]
    """By signature."""
    statistics: LatentStatistics | None
    provider: str
    opset: int
    name: str = field(init=False)
    version: str = field(init=False)
    image_shape: tuple[int, int, int] = field(init=False)
    """(H, W, C)."""
    latent_size: int = field(init=False)
    methods: frozenset[str] = field(init=False)
    has_posterior: bool = field(init=False)

    def __post_init__(self) -> None:
        """Compute once what every request needs."""
        model = self.model
        object.__setattr__(self, "name", model.name)
        object.__setattr__(self, "version", model.version)
        object.__setattr__(self, "image_shape", (model.height, model.width, model.channels))
        object.__setattr__(self, "latent_size", model.latent_size)
        object.__setattr__(self, "methods", frozenset(model.methods))
        encoders = [signature for signature in model.signatures if signature.name == "encode"]
        object.__setattr__(self, "has_posterior", any(len(encoder.outputs) > 1 for encoder in encoders))

    def check(self, method: str) -> None:
        """Refuse a method that the model does not serve.

        Raises:
            WrongMethodError: lists the methods it serves.
        """
        if method not in self.methods:
            raise WrongMethodError(
                f"model {self.name!r} version {self.version} of family {self.model.family!r} has no {method}: "
                f"it serves {', '.join(sorted(self.methods))}"
            )
