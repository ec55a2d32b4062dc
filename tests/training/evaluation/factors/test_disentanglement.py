import numpy as np
import pytest
import torch

from training.data import dataset
from training.data.split import Split
from training.evaluation.factors import disentanglement, shape_measures
from training.models.posterior import Posterior


def posterior(means: np.ndarray, deviation: float) -> Posterior:
    found = torch.from_numpy(means).float()
    return Posterior(found, torch.full_like(found, 2 * np.log(deviation)))


def information_of_a_sign(deviation: float) -> float:
    """Nats that z = v + N(0, deviation^2) says about v = -1 or 1, by quadrature."""
    places = np.linspace(-20, 20, 40_001)
    densities = [
        np.exp(-((places - mean) ** 2) / (2 * deviation**2)) / (deviation * np.sqrt(2 * np.pi)) for mean in (-1, 1)
    ]
    marginal = sum(densities) / 2
    terms = [each * np.log(each / marginal, where=each > 0, out=np.zeros_like(each)) for each in densities]
    return float(sum(terms).sum() / 2 * (places[1] - places[0]))


@pytest.mark.parametrize("deviation", [0.5, 1.0, 2.0])
def test_the_gap_of_a_sign_behind_noise_is_the_exact_information(deviation: float) -> None:
    signs = np.tile([0, 1], 2000)
    means = np.stack([2.0 * signs - 1, np.zeros(4000)], 1)
    found = disentanglement.mutual_information_gaps(posterior(means, deviation), {"sign": signs})
    assert found["sign"] == pytest.approx(information_of_a_sign(deviation) / np.log(2), abs=0.04)


def test_a_factor_with_a_latent_of_its_own_has_a_gap_of_one_and_one_in_two_latents_none() -> None:
    draws = np.random.default_rng(0)
    own, shared = draws.integers(0, 5, 3000), draws.integers(0, 5, 3000)
    means = np.stack([own, shared, shared], 1).astype(float)
    found = disentanglement.mutual_information_gaps(posterior(means, 0.01), {"own": own, "shared": shared})
    assert found["own"] == pytest.approx(1, abs=0.01)
    assert found["shared"] == pytest.approx(0, abs=0.01)


def test_bins_hold_as_many_values_each_and_equal_ones_stay_together() -> None:
    assert (np.bincount(disentanglement.binned(np.random.default_rng(0).standard_normal(2000))) == 100).all()
    bins = disentanglement.binned(np.repeat([0.0, 1.0, 5.0], [100, 10, 1]))
    assert len(set(bins[:100])) == 1
    assert bins[0] < bins[-1]


def test_the_factors_of_digits_are_thickness_slant_and_class() -> None:
    found = disentanglement.factors(dataset.digits().test)
    assert list(found) == ["thickness", "slant", "class"]
    assert found["class"].max() == 9


def test_a_factor_that_falls_into_one_bin_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"rare": np.repeat([0.0, 1.0], [970, 30]), "still": np.ones(1000), "even": np.repeat([0.0, 1.0], 500)}
    monkeypatch.setattr(shape_measures, "MEASURES", {name: lambda _, each=each: each for name, each in values.items()})
    found = disentanglement.factors(Split(np.zeros((1000, 8, 8, 1), np.uint8), None))
    assert list(found) == ["even"]
    gaps = disentanglement.mutual_information_gaps(posterior(found["even"][:, np.newaxis].astype(float), 0.01), found)
    assert gaps["even"] == pytest.approx(1, abs=0.01)
