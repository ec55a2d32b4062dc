from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from training import checkpoint
from training.evaluation.factors import directions, shape_measures


def test_regression_recovers_partial_effects_within_classes() -> None:
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 3, 4000)
    first = draws.standard_normal(4000)
    second = 0.8 * first + 0.6 * draws.standard_normal(4000)  # occurs together with the first
    truth = np.array([[2.0, 0, 0, 1], [0, 3.0, 0, 0]])
    codes = np.stack([first, second], 1) @ truth + 50 * np.eye(3, 4)[labels] + 0.1 * draws.standard_normal((4000, 4))
    found = directions.regress(codes, {"first": first, "second": second}, labels)
    for direction, vector in zip(found, truth, strict=True):
        np.testing.assert_allclose(direction.vector, vector * direction.spread, atol=0.05)


def test_class_pairs_lead_from_one_mean_to_the_nearest_other() -> None:
    codes = np.array([[0.0, 0], [0, 2], [10, 0], [10, 2], [13, 0], [13, 2]])
    found = directions.class_pairs(codes, np.array([0, 0, 1, 1, 2, 2]), ("a", "b", "c"))
    assert [each.name for each in found] == ["a-to-b", "b-to-c", "c-to-b"]
    np.testing.assert_allclose(directions.ACROSS * found[0].vector, [10, 0])


def test_the_whole_way_takes_the_gaussian_of_one_class_to_that_of_the_other() -> None:
    draws = np.random.default_rng(0)
    ends = [draws.standard_normal((3000, 4)) @ draws.standard_normal((4, 4)) + 3 * place for place in range(2)]
    labels = np.repeat([0, 1], 3000)
    found = directions.class_pairs(np.concatenate(ends), labels, ("a", "b"))[0]
    arrived = found.moved(ends[0].astype(np.float32), directions.ACROSS)
    np.testing.assert_allclose(arrived.mean(0), ends[1].mean(0), atol=0.01)
    wanted = 0.8**2 * np.cov(ends[1].T)
    np.testing.assert_allclose(np.cov(arrived.T), wanted, atol=0.02 * wanted.max())
    # No other map that does so moves codes less.
    assert np.linalg.eigvalsh(directions.transport(*ends)[:4, :4]).min() > 0


def test_classes_of_one_shape_are_a_shift_apart() -> None:
    shape = np.random.default_rng(0).standard_normal((500, 3))
    codes, labels = np.concatenate([shape, shape + np.array([5, 0, 1])]), np.repeat([0, 1], 500)
    mapped, straight = (
        directions.class_pairs(codes, labels, ("a", "b"), straight=straight)[0] for straight in (False, True)
    )
    assert straight.matrix is None
    assert mapped.matrix is not None
    by_five = np.eye(4) + 5 * np.outer([1, 1, 1, 0], [0, 0, 0, 1])
    np.testing.assert_allclose(directions.transport(shape, shape + 5), by_five, atol=1e-9)
    np.testing.assert_allclose(mapped.matrix, np.log(0.8) / 2 * np.eye(3), atol=1e-3)


class Bars:
    """Draws a bar for the code (slant * (1 + b), b), where b is its brightness, and reads both off again."""

    image_shape = (28, 28, 1)
    sees_slant = True

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.amax((1, 2, 3)) - 0.6
        slants = torch.from_numpy(shape_measures.slant(images[:, 0].numpy())).float() * self.sees_slant
        return torch.stack([slants * (1 + brightness), brightness], 1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        slants, brightness = latents[:, 0] / (1 + latents[:, 1]), latents[:, 1, None, None, None]
        rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
        middles = 13.5 + slants.tan()[:, None, None, None] * (13.5 - rows)
        return (0.6 + brightness) * (4 - (columns - middles).abs()).clamp(0, 1) * ((rows > 6) & (rows < 21))

    def images(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs


def followed(model: Bars) -> tuple[directions.Direction, directions.Direction]:
    """A vector along which slant grows, and what becomes of it."""
    straight = directions.Direction("slant", np.array([0.1, 0.0]), 0.0, 0.1)
    codes = np.random.default_rng(0).uniform(-0.2, 0.2, (200, 2)).astype(np.float32)
    return straight, directions.follow(cast("Any", model), codes, straight, [])


def test_slant_goes_where_the_encoder_puts_sheared_pictures() -> None:
    _, found = followed(Bars())
    np.testing.assert_allclose(found.vector, [0.1, 0], atol=0.01)
    np.testing.assert_allclose(found.matrix, [[0, 0.1], [0, 0]], atol=0.02)


def test_where_the_encoder_does_not_see_shearing_the_vector_stays() -> None:
    blind = Bars()
    blind.sees_slant = False
    straight, found = followed(blind)
    assert found is straight


def test_what_no_operation_changes_keeps_its_vector(vae_run: Path) -> None:
    model, codes = checkpoint.load(vae_run).model, np.zeros((4, 20), np.float32)
    thickness = directions.Direction("thickness", np.ones(20), 0.0, 1.0)
    assert directions.follow(model, codes, thickness, []) is thickness


def test_a_direction_is_fitted_with_one_blas_thread(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, solve = list[int](), np.linalg.lstsq

    def counted(*given: Any, **settings: Any) -> Any:
        threads.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return solve(*given, **settings)

    monkeypatch.setattr(np.linalg, "lstsq", counted)
    slant = directions.Direction("slant", np.ones(20), 0.0, 0.1)
    with threadpool_limits(2, user_api="blas"):
        directions.follow(checkpoint.load(vae_run).model, np.zeros((4, 20), np.float32), slant, [])
    assert set(threads) == {1}


@pytest.mark.parametrize("place", [0.0, 0.1])
def test_classes_without_any_spread_have_the_straight_way(place: float) -> None:
    codes, labels = np.repeat([[place, 0, 0], [1, 0, place]], 50, axis=0), np.repeat([0, 1], 50)
    for found in directions.class_pairs(codes, labels, ("a", "b")):
        assert found.matrix is None
        assert np.linalg.norm(found.vector) > 0
