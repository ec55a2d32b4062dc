"""Golden vectors: inputs with the outputs that each graph of a model must give on any machine."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bundle import npz
from bundle.errors import BundleError

ABSOLUTE_TOLERANCE = 1e-5
RELATIVE_TOLERANCE = 1e-4
# Of the cases and the sample that export makes; a bundle carries its own.
ROWS = 4
SEED = 20260117
TEMPERATURE = 1.0

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]

_SAMPLE = "sample"
_KEY = re.compile(r"([^/]+)/(\d+)/(inputs|outputs)/([^/]+)")


@dataclass(frozen=True)
class Case:
    """One run of one graph: arrays by tensor name, first axis the batch."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class SampleCase:
    """What `Sample` must draw: latents (count, D) to the bit, images (count, H, W, C) within tolerance.

    With a learned prior the noise (count, D) is drawn to the bit, and latents are within tolerance.
    """

    seed: int
    count: int
    temperature: float
    latents: NDArray[np.float32]
    images: NDArray[np.float32]
    noise: NDArray[np.float32] | None = None

    @property
    def exact(self) -> NDArray[np.float32]:
        """What is drawn to the bit."""
        return self.latents if self.noise is None else self.noise

    @property
    def drawn(self) -> Case | None:
        """What a learned prior must give for the noise."""
        return None if self.noise is None else Case({"noise": self.noise}, {"latents": self.latents})

    @property
    def decoded(self) -> Case:
        """What the decoder must give for the latents."""
        return Case({"latents": self.latents}, {"images": self.images})


@dataclass(frozen=True)
class Golden:
    """The content of golden.npz: cases by signature, and the sample case where the model can sample."""

    cases: Mapping[str, tuple[Case, ...]]
    sample_case: SampleCase | None = None

    def of(self, signature: str) -> tuple[Case, ...]:
        """Cases of a graph; for the decoder, and for a learned prior, the golden sample is one more."""
        sample = self.sample_case
        steps = {} if sample is None else {"decode": sample.decoded, "prior": sample.drawn}
        more = steps.get(signature)
        return (*self.cases.get(signature, ()), *(() if more is None else (more,)))

    def to_bytes(self) -> bytes:
        """Make golden.npz: equal content, equal bytes."""
        arrays: dict[str, NDArray[Any]] = {}
        for signature, cases in self.cases.items():
            for index, case in enumerate(cases):
                for direction, tensors in (("inputs", case.inputs), ("outputs", case.outputs)):
                    arrays |= {f"{signature}/{index}/{direction}/{name}": array for name, array in tensors.items()}
        if self.sample_case is not None:
            arrays |= {
                f"{_SAMPLE}/{name}": np.asarray(value) for name, value in _sample_arrays(self.sample_case).items()
            }
        return npz.pack(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Golden":
        """Read golden.npz.

        Raises:
            BundleError: not what `to_bytes` writes.
        """
        arrays = npz.unpack(data, "golden.npz")
        drawn = {name.partition("/")[2]: arrays.pop(name) for name in list(arrays) if name.startswith(f"{_SAMPLE}/")}
        return cls(_cases(arrays), _sample_case(drawn) if drawn else None)


def max_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest |actual - expected|; infinite where shapes differ or a value is not finite."""
    return _largest(actual, expected, np.ones(()))


def agrees(actual: NDArray[Any], expected: NDArray[Any], tolerance: float = 0.0) -> bool:
    """Whether |actual - expected| <= tolerance everywhere; tolerance 0 means 1e-5 + 1e-4 |expected|."""
    return excess(actual, expected, tolerance) <= 1.0


def excess(actual: NDArray[Any], expected: NDArray[Any], tolerance: float = 0.0) -> float:
    """Largest |actual - expected| as a multiple of the tolerance; infinite as in `max_error`."""
    if tolerance > 0:
        return _largest(actual, expected, np.asarray(tolerance))
    return _largest(actual, expected, ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected.astype(np.float64)))


def _largest(actual: NDArray[Any], expected: NDArray[Any], unit: NDArray[np.float64]) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    if actual.size == 0:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.max(np.abs(actual.astype(np.float64) - expected.astype(np.float64)) / unit))
    return largest if np.isfinite(largest) else float("inf")


def _sample_arrays(case: SampleCase) -> dict[str, Any]:
    return {
        "seed": np.uint64(case.seed),
        "count": np.int64(case.count),
        "temperature": np.float64(case.temperature),
        "latents": case.latents,
        "images": case.images,
    } | ({} if case.noise is None else {"noise": case.noise})


def _sample_case(arrays: Arrays) -> SampleCase:
    try:
        return SampleCase(
            seed=int(arrays["seed"]),
            count=int(arrays["count"]),
            temperature=float(arrays["temperature"]),
            latents=arrays["latents"],
            images=arrays["images"],
            noise=arrays.get("noise"),
        )
    except (KeyError, TypeError) as error:
        raise BundleError(f"golden.npz: the sample case is incomplete: {error}") from error


def _cases(arrays: Arrays) -> dict[str, tuple[Case, ...]]:
    found: dict[str, dict[int, dict[str, dict[str, NDArray[Any]]]]] = {}
    for key, array in arrays.items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise BundleError(f"golden.npz: expected signature/index/inputs|outputs/tensor, got {key!r}")
        signature, index, direction, name = match.groups()
        case = found.setdefault(signature, {}).setdefault(int(index), {"inputs": {}, "outputs": {}})
        case[direction][name] = array
    return {signature: tuple(Case(**cases[index]) for index in sorted(cases)) for signature, cases in found.items()}
