"""Replay over plain functions in place of a runtime."""

import dataclasses

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import (
    DATA_TYPE_FLOAT32,
    DATA_TYPE_UINT8,
    DataType,
    Model,
    Signature,
    TensorSpec,
    Tiling,
)
from autoencoder.v1.shapes import DTYPES

from bundle import latents, replay
from bundle.golden import Case, SampleCase

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def doubled(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"y": rows * 2}


def shifted_in_company(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows see how many they are."""
    return {"y": rows + np.float32(0.25) * (len(rows) - 1)}


def test_golden_vectors_that_agree() -> None:
    seen = list(
        replay.golden_vectors(doubled, [Case({"x": ROWS}, {"y": ROWS * 2}), Case({"x": ROWS}, {"y": ROWS * 2})])
    )
    assert [(each.case, each.output, each.max_error, each.agrees) for each in seen] == [
        (0, "y", 0.0, True),
        (1, "y", 0.0, True),
    ]


def test_golden_vectors_that_differ_say_by_how_much() -> None:
    case = Case({"x": ROWS}, {"y": ROWS * 2 + np.float32(0.5)})
    (seen,) = replay.golden_vectors(doubled, [case])
    assert (str(seen), seen.agrees) == ("case 0, output y: off by 0.5", False)
    (seen,) = replay.golden_vectors(doubled, [case], tolerance=0.6)
    assert seen.agrees


def test_rows_that_do_not_see_each_other_have_the_same_bits() -> None:
    assert replay.batch_invariance(doubled, ROWS, [range(3), [2, 0]], compared=3) == (0.0, 0.0)


@pytest.mark.parametrize(("tolerance", "excess"), [(0.25, 2.0), (1.0, 0.5)])
def test_rows_that_see_each_other_are_measured(tolerance: float, excess: float) -> None:
    found = replay.batch_invariance(shifted_in_company, ROWS, [range(2), range(3)], compared=2, tolerance=tolerance)
    assert found == (0.5, excess)


def test_rows_beyond_those_compared_are_only_run_in_batches() -> None:
    runs: list[int] = []

    def counted(rows: np.ndarray) -> dict[str, np.ndarray]:
        runs.append(len(rows))
        return doubled(rows)

    assert replay.batch_invariance(counted, ROWS, [range(3)], compared=1) == (0.0, 0.0)
    assert runs == [1, 3]


def test_further_inputs_stay_with_their_rows() -> None:
    def scaled(rows: np.ndarray, factors: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": rows * factors[:, None]}

    factors = np.array([1, 2, 3], np.float32)
    case = Case({"x": ROWS, "factors": factors}, {"y": ROWS * factors[:, None]})
    assert [each.max_error for each in replay.golden_vectors(scaled, [case])] == [0.0]
    assert replay.batch_invariance(scaled, ROWS, [range(3), [2, 0]], 3, beside=[factors]) == (0.0, 0.0)


def blurred(radius: int) -> replay.Run:
    """A graph that adds up a square around each pixel, zeros beyond the edge, weighted by its second input."""

    def run(images: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        height, width = images.shape[1:3]
        padded = np.pad(images, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
        places = [(row, column) for row in range(2 * radius + 1) for column in range(2 * radius + 1)]
        blur = sum(padded[:, row : row + height, column : column + width] for row, column in places)
        return {"maps": blur * weights[:, None, None, None], "scores": blur.sum(axis=(1, 2, 3))}

    return run


def blurring(halo: int, multiple: int = 1) -> Signature:
    spec = TensorSpec(name="images", data_type=DATA_TYPE_FLOAT32, shape=[-1, -1, -1, 2])
    return Signature(inputs=[spec], tiling=Tiling(halo=halo, multiple=multiple, tile=24))


@pytest.mark.parametrize(("radius", "multiple"), [(0, 1), (3, 1), (3, 2), (5, 4)])
def test_tiles_with_their_halo_give_the_whole(radius: int, multiple: int) -> None:
    level = [np.full(1, 0.5, np.float32)]
    assert replay.tiles_agree(blurred(radius), blurring(radius, multiple), level) == (0.0, 0.0)


@pytest.mark.parametrize("radius", [1, 3])
def test_a_halo_that_is_too_small_shows(radius: int) -> None:
    found = replay.tiles_agree(blurred(radius), blurring(radius - 1), [np.full(1, 0.5, np.float32)])
    assert found.largest > 0.1
    assert found.excess > 1


@pytest.mark.parametrize(
    ("name", "kind", "lowest", "highest"),
    [("images", DATA_TYPE_UINT8, 0, 255), ("images", DATA_TYPE_FLOAT32, 0, 1), ("latents", DATA_TYPE_FLOAT32, -3, 3)],
)
def test_noise_of_the_kind_that_a_graph_takes(name: str, kind: DataType, lowest: float, highest: float) -> None:
    drawn = replay.noise(Signature(inputs=[TensorSpec(name=name, data_type=kind, shape=[-1, -1, -1, 3])]), (16, 20), 2)
    assert drawn.shape == (2, 16, 20, 3)
    assert drawn.dtype == DTYPES[kind]
    assert lowest <= drawn.min() < lowest + 0.1 * (highest - lowest)
    assert highest >= drawn.max() > highest - 0.1 * (highest - lowest)


def test_the_golden_sample_is_drawn_to_the_bit() -> None:
    model = Model(family="vae", latent_size=2)
    drawn = latents.standard(7, 0, 3, 2)
    case = SampleCase(7, 3, 1.0, drawn, np.zeros((3, 4, 4, 1), np.float32))
    assert replay.draws_golden_latents(model, None, case)
    other = dataclasses.replace(case, latents=np.nextafter(drawn, np.float32(np.inf)))
    assert not replay.draws_golden_latents(model, None, other)
    assert not replay.draws_golden_latents(Model(family="ae", latent_size=2), None, case)
    assert case.decoded.inputs["latents"] is drawn
