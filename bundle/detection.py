"""Calibration of anomaly detection: thresholds for false-alarm rates, order statistics of held-out normal images.

A new normal image scores above the k-th smallest of n held-out scores with a probability that has the distribution
Beta(n + 1 - k, k), whatever the distribution of scores (Wilks 1941, "Determination of sample sizes for setting
tolerance limits"; David and Nagaraja 2003, "Order Statistics", section 7.2). Its mean is the promised rate.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from autoencoder.v1.anomaly_maps import scores_of
from autoencoder.v1.model_pb2 import Detection
from numpy.typing import NDArray

from bundle import npz
from bundle.errors import BundleError
from bundle.latents import LatentStatistics

Score: TypeAlias = Literal["max", "mean"]
"""How an image's score comes from its map."""

SCORES: tuple[Score, ...] = get_args(Score)
CONFIDENCE = 0.999
"""Of the intervals of rates, two-sided."""
# Rates are one false alarm in so many normal images.
_ONE_IN = (10_000, 1_000, 500, 200, 100, 50, 20, 10)
_DEFAULT_ONE_IN = 100
LEAST_IMAGES = _ONE_IN[-1] - 1
"""Fewer held-out images are too few for any rate."""
_PREFIX = "detection_"
_BISECTIONS = 80


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOutScores:
    """What a detector gives for n normal images that it was not trained on, all of one size."""

    scores: NDArray[np.float32]
    """(n,) of images."""
    maxima: NDArray[np.float32]
    """(n,) largest values of their maps."""
    map_low: float
    """A typical value of the maps: the median of the medians of single maps."""
    size: tuple[int, int]
    """Height and width of the images."""

    @classmethod
    def of_maps(cls, maps: Iterable[NDArray[np.float32]], score: Score) -> "HeldOutScores":
        """Reduce maps (n, H, W) or (n, H, W, 1) of at least one held-out image as a server does, one after the other.

        Raises:
            BundleError: there are none, or of several sizes.
        """
        rows = [(scores_of([each], score), each.max(), np.median(each), each.shape[:2]) for each in maps]
        sizes = sorted({size for *_, size in rows})
        if len(sizes) != 1:
            got = ", ".join(f"{height} x {width}" for height, width in sizes) or "none"
            raise BundleError(f"expected held-out normal images of one size to calibrate detection on, got {got}")
        height, width = sizes[0]
        return cls(
            scores=np.concatenate([scores for scores, *_ in rows]),
            maxima=np.array([largest for _, largest, *_ in rows], np.float32),
            map_low=float(np.median([low for *_, low, _ in rows])),
            size=(height, width),
        )


def calibrate(held_out: HeldOutScores, score: Score) -> Detection:
    """Choose the thresholds for every rate that so many images can tell, from 0.1 down to 0.0001.

    Raises:
        BundleError: too few images for any.
    """
    count = len(held_out.scores)
    known = [each for each in _ONE_IN if count + 1 >= each]
    if not known:
        raise BundleError(
            f"expected at least {LEAST_IMAGES} held-out normal images to calibrate false-alarm rates on, got {count}: "
            "add normal images"
        )
    # So many of the n + 1 places that a new image can take among the held-out ones are above the threshold.
    places = [(count + 1) // each for each in known]
    kept = [count - above for above in places]
    intervals = [rate_interval(above, count) for above in places]
    return Detection(
        score=score,
        rates=[1 / each for each in known],
        thresholds=np.sort(held_out.scores)[kept].tolist(),
        map_thresholds=np.sort(held_out.maxima)[kept].tolist(),
        default_rate=1 / min(known[0], _DEFAULT_ONE_IN),
        map_low=held_out.map_low,
        calibrated_on=count,
        rate_lower=[lower for lower, _ in intervals],
        rate_upper=[upper for _, upper in intervals],
        calibrated_height=held_out.size[0],
        calibrated_width=held_out.size[1],
    )


def rate_interval(above: int, count: int) -> tuple[float, float]:
    """99.9 % interval of the true rate: `above` of the `count` + 1 places are above the threshold.

    Of Beta(above, count + 1 - above), whose distribution function is a tail of the binomial one.
    """
    tail = (1 - CONFIDENCE) / 2
    return _beta_quantile(tail, above, count), _beta_quantile(1 - tail, above, count)


def index_of(detection: Detection, rate: float) -> int | None:
    """Index of a rate, or else of the next lower one, in the lists of a calibration; None below the lowest."""
    known = np.asarray(detection.rates, np.float32)
    found = int(np.searchsorted(known, np.float32(rate), side="right")) - 1
    return found if found >= 0 else None


def check_detection(detection: Detection, height: int, width: int) -> None:
    """Check a calibration against itself and the size of the model's images, 0 x 0 where that is free.

    Raises:
        BundleError: says what is not as `calibrate` writes it.
    """
    for expected, got, holds in _expectations(detection, (height, width)):
        if not holds():
            raise BundleError(f"detection: expected {expected}, got {got}")


_Expectation: TypeAlias = tuple[str, object, Callable[[], bool]]


def _expectations(detection: Detection, image: tuple[int, int]) -> Iterator[_Expectation]:
    """What is expected, what is there, and whether that is so; each may rely on those before it."""
    rates, lower, upper = [*detection.rates], [*detection.rate_lower], [*detection.rate_upper]
    thresholds, map_thresholds = [*detection.thresholds], [*detection.map_thresholds]
    counts = [len(each) for each in (rates, thresholds, map_thresholds, lower, upper)]
    numbers = [*thresholds, *map_thresholds, detection.map_low]
    size = detection.calibrated_height, detection.calibrated_width
    yield "a score that is max or mean", repr(detection.score), lambda: detection.score in SCORES
    yield "as many thresholds and interval ends as rates", counts, lambda: len({*counts}) == 1 and bool(rates)
    yield "rates between 0 and 1, ascending", rates, lambda: _ascend([0.0, *rates, 1.0], strictly=True)
    yield "finite thresholds and a finite map_low", numbers, lambda: all(map(math.isfinite, numbers))
    yield "thresholds that fall as rates rise", thresholds, lambda: _ascend(thresholds[::-1])
    yield "map_thresholds that fall as rates rise", map_thresholds, lambda: _ascend(map_thresholds[::-1])
    low = f"{detection.map_low:g} and {map_thresholds}: its maps show nothing"
    yield "a map_low below all map_thresholds", low, lambda: detection.map_low < min(map_thresholds)
    yield "a default_rate among the rates", detection.default_rate, lambda: detection.default_rate in rates
    ends = f"{lower} and {upper}"
    yield (
        "rates within their intervals",
        ends,
        lambda: all(_ascend([0.0, *each, 1.0]) for each in zip(lower, rates, upper, strict=True)),
    )
    yield "a count of images to be calibrated on", detection.calibrated_on, lambda: detection.calibrated_on >= 0
    fits = min(size) >= 0 and (not image[0] or size in {(0, 0), image})
    yield "to be calibrated on images of the model's size", "{} x {}".format(*size), lambda: fits


def _ascend(values: Sequence[float], *, strictly: bool = False) -> bool:
    return all(one < other or (one == other and not strictly) for one, other in pairwise(values))


def pack_statistics(latents: LatentStatistics | None, held_out: HeldOutScores | None) -> bytes | None:
    """Make a checkpoint's latents.npz: statistics of latents, held-out scores, or both; None of neither.

    Scores are stored as `detection_scores` (n,), `detection_maxima` (n,), `detection_map_low` () and `detection_size`
    (2,): height and width.
    """
    arrays: dict[str, NDArray[Any]] = {} if latents is None else latents.to_arrays()
    if held_out is not None:
        stored = {
            "scores": np.asarray(held_out.scores, np.float32),
            "maxima": np.asarray(held_out.maxima, np.float32),
            "map_low": np.asarray(held_out.map_low, np.float32),
            "size": np.asarray(held_out.size, np.int64),
        }
        arrays |= {f"{_PREFIX}{name}": array for name, array in stored.items()}
    return npz.pack(arrays) if arrays else None


def unpack_statistics(data: bytes) -> tuple[LatentStatistics | None, HeldOutScores | None]:
    """Read a checkpoint's latents.npz.

    Raises:
        BundleError: not what `pack_statistics` writes, or numbers that no detector gives.
    """
    arrays = npz.unpack(data, "latents.npz")
    detection = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_PREFIX)}
    latents = LatentStatistics.from_arrays(arrays) if arrays or not detection else None
    return latents, _held_out(detection) if detection else None


def _held_out(arrays: Mapping[str, NDArray[Any]]) -> HeldOutScores:
    forms = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    count = arrays.get(f"{_PREFIX}scores", np.zeros(0)).size
    expected: dict[str, tuple[type[Any], Sequence[int]]] = {
        f"{_PREFIX}scores": (np.float32, (count,)),
        f"{_PREFIX}maxima": (np.float32, (count,)),
        f"{_PREFIX}map_low": (np.float32, ()),
        f"{_PREFIX}size": (np.int64, (2,)),
    }
    if forms != {name: (np.dtype(kind), shape) for name, (kind, shape) in expected.items()}:
        raise BundleError(f"latents.npz: expected {_PREFIX}scores and their like of equal length, got {forms}")
    scores, maxima, low, size = (arrays[name] for name in expected)
    if not all(np.isfinite(each).all() and (each >= 0).all() for each in (scores, maxima, low)) or (size < 1).any():
        raise BundleError("latents.npz: expected finite scores from 0 of images of at least one pixel")
    return HeldOutScores(scores=scores, maxima=maxima, map_low=float(low), size=(int(size[0]), int(size[1])))


def _beta_quantile(level: float, above: int, count: int) -> float:
    """Quantile of Beta(above, count + 1 - above), by bisection; here and not SciPy's, which a bundle does without.

    P(p <= x) is the probability that at least `above` of `count` draws with probability x succeed (the same tail that
    Clopper and Pearson 1934 invert).
    """
    fewer = np.arange(above)
    steps = np.log((count - fewer[1:] + 1) / fewer[1:])
    log_choices = np.concatenate([np.zeros(1), np.cumsum(steps)])
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        log_terms = log_choices + fewer * np.log(middle) + (count - fewer) * np.log1p(-middle)
        below = 1 - float(np.exp(log_terms).sum()) < level
        low, high = (middle, high) if below else (low, middle)
    return low
