"""The golden sample: a seed, and the latents that `Sample` must draw for it."""

import numpy as np
from numpy.typing import NDArray

from bundle import latents
from bundle.latents import LatentStatistics

ROWS = 4
SEED = 20260117
TEMPERATURE = 1.0


def draw(
    family: str, latent_size: int, statistics: LatentStatistics | None, seed: int = SEED, count: int = ROWS
) -> NDArray[np.float32] | None:
    """(count, D) latents that `Sample` draws; None where the family has no density to draw from."""
    return latents.draw(family, latent_size, statistics, seed, 0, count, TEMPERATURE)
