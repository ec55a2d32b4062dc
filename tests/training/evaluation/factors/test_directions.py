from pathlib import Path

import numpy as np
import torch

from training import checkpoint
from training.data import dataset
from training.evaluation import inference
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


def test_slant_goes_where_the_encoder_puts_sheared_pictures(vae_run: Path) -> None:
    model, digits = checkpoint.load(vae_run).model, dataset.digits()
    codes = inference.all_codes(model, digits.train.take(slice(300)))
    slants = shape_measures.slant(shape_measures.grey(digits.train.images[:300]))
    straight = directions.regress(codes, {"slant": slants}, None)[0]
    found = directions.follow(model, codes, straight, [])
    assert found.matrix is not None
    pictures = inference.decode(model, codes)[:, 0].numpy()
    sheared = shape_measures.sheared(pictures, found.spread)[:, np.newaxis].astype(np.float32)
    wanted = inference.codes(model, torch.from_numpy(sheared)).numpy()

    def agreement(direction: directions.Direction) -> float:
        """The cosine between both changes of the codes."""
        changes = [each - codes for each in (direction.moved(codes, 1.0), wanted)]
        return float(np.vdot(*changes) / np.prod([np.linalg.norm(each) for each in changes]))

    assert agreement(found) > agreement(straight)


def test_what_no_operation_changes_keeps_its_vector(vae_run: Path) -> None:
    model, codes = checkpoint.load(vae_run).model, np.zeros((4, 20), np.float32)
    thickness = directions.Direction("thickness", np.ones(20), 0.0, 1.0)
    assert directions.follow(model, codes, thickness, []) is thickness
