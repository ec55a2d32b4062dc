"""The golden sample: a seed, and the latents that `Sample` must draw for it."""

import numpy as np
from numpy.typing import NDArray

from bundle.latents import LatentStatistics, prior, standard

ROWS = 4
SEED = 20260117
TEMPERATURE = 1.0


def draw(
    family: str, latent_size: int, latents: LatentStatistics | None, seed: int = SEED, count: int = ROWS
) -> NDArray[np.float32] | None:
    """(count, D) latents that `Sample` draws; None where the family has no density to draw from."""
    kind = prior(family)
    if latents is not None:
        return latents.sample(seed, 0, count, TEMPERATURE, kind)
    return standard(seed, 0, count, latent_size, TEMPERATURE) if kind == "normal" else None
