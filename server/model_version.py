"""The facts of a model version that a request needs to know; what runs it is in `models/table.py`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from autoencoder.v1.model_pb2 import Model
from autoencoder.v1.shapes import Shapes

from bundle.latents import LatentStatistics
from server.errors import InvalidArgumentError, WrongMethodError


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
    shapes: Shapes = field(init=False)
    methods: frozenset[str] = field(init=False)
    has_posterior: bool = field(init=False)

    def __post_init__(self) -> None:
        """Compute once what every request needs."""
        model = self.model
        object.__setattr__(self, "name", model.name)
        object.__setattr__(self, "version", model.version)
        object.__setattr__(self, "shapes", Shapes.of(model))
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

    def noise_levels(self, given: Sequence[float], count: int) -> Sequence[float]:
        """Noise level of each of `count` images; none where the model takes none.

        Raises:
            InvalidArgumentError: missing, out of range, of another count, or for a model that takes none.
        """
        taken = self.model.noise_level
        if not self.model.HasField("noise_level"):
            if given:
                expected = f"expected none, because model {self.name!r} takes no noise level"
                raise InvalidArgumentError("noise_levels", f"{expected}, got {len(given)}")
            return ()
        allowed = f"from {taken.minimum:g} to {taken.maximum:g}"
        if not given and not taken.default:
            expected = f"expected the standard deviation of the noise in images of 0 … 1, {allowed}"
            raise InvalidArgumentError("noise_levels", f"{expected}, got none")
        levels = list(given) or [taken.default]
        if len(levels) not in {1, count}:
            raise InvalidArgumentError("noise_levels", f"expected one for all images or for each, got {len(levels)}")
        for index, level in enumerate(levels):
            if not taken.minimum <= level <= taken.maximum or not math.isfinite(level):
                raise InvalidArgumentError(f"noise_levels[{index}]", f"expected a level {allowed}, got {level:g}")
        return levels * count if len(levels) == 1 else levels
