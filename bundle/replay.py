"""Self-test of a bundle: golden vectors, the golden sample, batch invariance and tiles, replayed on any runtime.

The runtime is a callable: an array (rows, …) for each input of a graph, in the graph's order, to its outputs by name,
(rows, …) each.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from autoencoder.v1 import tiling
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Model, Signature, Tiling
from autoencoder.v1.shapes import DTYPES, Size
from numpy.typing import NDArray

from bundle import golden, latents
from bundle.golden import Case, SampleCase
from bundle.latents import LatentStatistics
from bundle.noise import Purpose, uniforms

Run: TypeAlias = Callable[..., Mapping[str, NDArray[Any]]]


class Comparison(NamedTuple):
    """One output of one golden case against what the runtime gave."""

    case: int
    output: str
    max_error: float
    agrees: bool

    def __str__(self) -> str:
        return f"case {self.case}, output {self.output}: off by {self.max_error:.3g}"


class RowDifference(NamedTuple):
    """How far a row alone is from the same row in a batch, or tiles from the whole image."""

    largest: float
    """Absolute; 0 where they have the same bits."""
    excess: float
    """As a multiple of what the tolerance allows, as `golden.excess`."""


def golden_vectors(run: Run, cases: Iterable[Case], tolerance: float = 0.0) -> Iterator[Comparison]:
    """Compare every output of a graph's golden cases; `tolerance` as in `golden.agrees`."""
    for index, case in enumerate(cases):
        actual = run(*map(np.ascontiguousarray, case.inputs.values()))
        for name, expected in case.outputs.items():
            error = golden.max_error(actual[name], expected)
            yield Comparison(index, name, error, golden.agrees(actual[name], expected, tolerance))


def draws_golden_latents(model: Model, statistics: LatentStatistics | None, case: SampleCase) -> bool:
    """Whether `Sample` draws the golden latents, or noise for a learned prior, from the golden seed, to the bit."""
    shape = case.latents.shape[1:]
    drawn = latents.draw(model.family, shape, statistics, case.seed, 0, case.count, case.temperature)
    return drawn is not None and drawn.tobytes() == case.exact.tobytes()


def batch_invariance(
    run: Run,
    rows: NDArray[Any],
    batches: Iterable[Sequence[int]],
    compared: int,
    tolerance: float = 0.0,
    beside: Sequence[NDArray[Any]] = (),
) -> RowDifference:
    """Largest difference between a row alone and the same row in a batch.

    `batches` holds the numbers of the rows that are run together; of `rows`, the first `compared` are also run alone;
    `beside` holds the rows of further inputs.
    """
    inputs = (rows, *beside)

    def chosen(indices: Sequence[int]) -> Mapping[str, NDArray[Any]]:
        return run(*(np.ascontiguousarray(each[list(indices)]) for each in inputs))

    alone = [chosen([index]) for index in range(min(compared, len(rows)))]
    largest = excess = 0.0
    for batch in batches:
        together = chosen(batch)
        shown = [place for place, index in enumerate(batch) if index < len(alone)]
        for name, array in together.items():
            actual = array[shown]
            expected = np.concatenate([alone[batch[place]][name] for place in shown])
            found = _difference(actual, expected, tolerance)
            largest, excess = max(largest, found.largest), max(excess, found.excess)
    return RowDifference(largest, excess)


def tiles_agree(run: Run, signature: Signature, beside: Sequence[NDArray[Any]] = ()) -> RowDifference:
    """Compare tiles with the whole on noise, in the two small images of `tiling.trials`.

    `signature` has a tiling; `beside` holds one row, (1,), of every further input.
    """
    largest = excess = 0.0
    for cut, size in tiling.trials(signature.tiling):
        inputs = [noise(signature, size), *beside]
        for rows in (1, 3):
            found = tile_difference(run, inputs, cut, rows, signature.golden_tolerance)
            largest, excess = max(largest, found.largest), max(excess, found.excess)
    return RowDifference(largest, excess)


def noise(signature: Signature, size: Size, rows: int = 1, seed: int = golden.SEED) -> NDArray[Any]:
    """(rows, height, width, …) of uniform noise for the first input of a graph of free sizes."""
    spec = signature.inputs[0]
    shape = (rows, *size, spec.shape[-1])
    drawn = uniforms(seed, Purpose.ENCODE, 0, rows, int(np.prod(shape[1:]))).reshape(shape)
    if spec.name == "latents":
        drawn = 6 * drawn - 3
    return (np.floor(drawn * 256) if spec.data_type == DATA_TYPE_UINT8 else drawn).astype(DTYPES[spec.data_type])


def tile_difference(
    run: Run, inputs: Sequence[NDArray[Any]], about: Tiling, rows: int, tolerance: float = 0.0
) -> RowDifference:
    """Largest difference between an image (1, H, W, C) in one run and in tiles, `rows` of a size in each run.

    `inputs`: the image, and one row of every further input. Outputs without height and width are left out.
    """
    image, *beside = inputs
    whole = {name: array[0] for name, array in run(*inputs).items() if array.ndim == image.ndim}
    made = {name: np.zeros_like(array) for name, array in whole.items()}
    by_size: defaultdict[Size, list[tiling.Window]] = defaultdict(list)
    for window in tiling.windows(image.shape[1:3], about):
        by_size[window.size].append(window)
    for windows in by_size.values():
        for start in range(0, len(windows), rows):
            batch = windows[start : start + rows]
            cut = np.stack([window.cut(image[0]) for window in batch])
            answers = run(cut, *(np.repeat(each, len(batch), axis=0) for each in beside))
            for name, array in made.items():
                ratio = Fraction(array.shape[0], image.shape[1])
                for window, output in zip(batch, answers[name], strict=True):
                    window.paste(output, array, ratio)
    found = [_difference(made[name], whole[name], tolerance) for name in whole]
    largest, excess = max(each.largest for each in found), max(each.excess for each in found)
    return RowDifference(largest, excess)


def _difference(actual: NDArray[Any], expected: NDArray[Any], tolerance: float) -> RowDifference:
    if actual.tobytes() == expected.tobytes():
        return RowDifference(0.0, 0.0)
    return RowDifference(golden.max_error(actual, expected), golden.excess(actual, expected, tolerance))
