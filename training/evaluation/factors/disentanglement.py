"""The mutual information gap (Chen et al. 2018): whether each factor of variation has a latent of its own."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.split import Split
from training.errors import UnavailableError
from training.evaluation import inference
from training.evaluation.factors import shape_measures
from training.models.families import Network
from training.models.posterior import Posterior
from training.random_streams import Draws, Purpose, generator

# Of continuous factors, with as many images each.
_BINS = 20
_IMAGES, _SAMPLES = 5_000, 1_000
_SAMPLES_AT_ONCE = 250


@torch.no_grad()
def figures(model: Network, split: Split) -> dict[str, float]:
    """`mig_NAME` for each factor of the images, thickness, slant and class, and their mean as `mig`; on 5,000 images.

    Raises:
        UnavailableError: the code is no vector.
    """
    if len(model.latent_shape) != 1:
        raise UnavailableError("it needs a code of one vector")
    split = split.take(slice(_IMAGES))
    posteriors = [model.encode(images) for images in inference.batches(split)]
    posterior = Posterior(*(torch.cat(each) for each in zip(*posteriors, strict=True)))
    gaps = mutual_information_gaps(posterior, factors(split))
    return {f"mig_{name}": gap for name, gap in gaps.items()} | (
        {"mig": float(np.mean([*gaps.values()]))} if gaps else {}
    )


def factors(split: Split) -> dict[str, np.ndarray]:
    """What varies in images, as integers (N,) from 0 on: continuous factors in bins of as many images each.

    Those that fall into a single bin are left out.
    """
    grey = shape_measures.grey(split.images)
    measured = {name: measure(grey) for name, measure in shape_measures.MEASURES.items()}
    # Most images may share the smallest value, as empty ones do: one bin says nothing.
    found = {name: bins for name, values in measured.items() if (bins := binned(values)).any()}
    labels = split.labels
    if labels is not None and np.ptp(labels):
        found["class"] = np.unique(labels, return_inverse=True)[1]
    return found


def binned(values: np.ndarray) -> np.ndarray:
    """(N,) to the bins (N,) of about as many values each; equal values share one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, values, side="right"), return_inverse=True)[1]


def mutual_information_gaps(posterior: Posterior, factors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """For each factor, by how much the latent that knows most about it knows more than the next, over its entropy.

    The information I(z_d; v) of N posteriors (N, D) is the mean of log q(z_d | v) - log q(z_d) over samples, where both
    are averages of posteriors (Chen et al. 2018, section 4).
    """
    count = len(posterior.means)
    chosen = torch.from_numpy(np.linspace(0, count - 1, min(_SAMPLES, count)).astype(np.int64))
    normals = Draws.whole_batch(generator(2, Purpose.TEST), count, inference.CPU).normal(posterior.means.shape[1:])
    drawn = posterior.sample(normals)[chosen]
    found: dict[str, float] = {}
    informations = _informations(posterior, drawn, chosen, factors)
    for name, values in factors.items():
        shares = np.bincount(values) / count
        entropy = float(-(shares * np.log(shares)).sum())
        best = np.sort(informations[name])[::-1]
        found[name] = float(best[0] - (best[1] if len(best) > 1 else 0)) / entropy
    return found


def _informations(
    posterior: Posterior, drawn: Tensor, chosen: Tensor, factors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Nats (D,) of each factor: of samples (S, D) that are draws of the posteriors of the images `chosen`, (S,)."""
    classes = {name: torch.from_numpy(values) for name, values in factors.items()}
    averages = {name: functional.one_hot(each).float() for name, each in classes.items()}
    averages = {name: each / each.sum(0) for name, each in averages.items()}
    totals = {name: np.zeros(drawn.shape[1]) for name in factors}
    tiny = torch.finfo(torch.float32).tiny
    for rows in torch.arange(len(drawn)).split(_SAMPLES_AT_ONCE):
        for axis in range(drawn.shape[1]):
            means, log_variances = posterior.means[:, axis], posterior.log_variances[:, axis]
            squares = (drawn[rows, axis, None] - means).square() * (-log_variances).exp()
            densities = (-0.5 * (squares + log_variances)).exp()
            marginal = densities.mean(1).clamp(min=tiny).log()
            for name, weights in averages.items():
                own = classes[name][chosen[rows], None]
                conditional = (densities @ weights).gather(1, own)[:, 0].clamp(min=tiny).log()
                totals[name][axis] += float((conditional - marginal).double().sum())
    return {name: total / len(drawn) for name, total in totals.items()}
