"""Counter-based random numbers: they depend on a seed and an index only, not on batch, count, process or machine.

Words come from Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), numbers from
the words by arithmetic that IEEE 754 fixes to the bit. Row i of `size` numbers takes the words of counters
i * blocks + 1 to (i + 1) * blocks, blocks = ceil(size / 4), under the key (seed, purpose). Rows of rows, such as the
samples of an image, are streams: stream j begins at counter j * 2^128.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SCHEME = "philox4x64-10-as241-v1"
MAX_SEED = 2**64 - 1

_WORDS_PER_BLOCK = 4
# The upper half of a counter of 256 bits.
_STREAM_BITS = 128


class Purpose(IntEnum):
    """Use of a random stream; streams of different purposes are independent."""

    SAMPLE = 1
    ENCODE = 2
    MIXTURE = 3
    SCORE = 4
    BINARISE = 5


def uniforms(seed: int, purpose: Purpose, first: int, count: int, size: int, stream: int = 0) -> NDArray[np.float64]:
    """Draw (count, size) float64, uniform in the open interval (0, 1), for the rows first … first + count - 1.

    Raises:
        ValueError: the seed is not an unsigned 64-bit number, or an index or size is negative.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"expected a seed from 0 to 2^64 - 1, got {seed}")
    if min(first, count, size, stream) < 0:
        raise ValueError(f"expected first, count, size and stream from 0, got {first}, {count}, {size}, {stream}")
    blocks = -(-size // _WORDS_PER_BLOCK)
    generator = np.random.Philox(key=seed | purpose << 64, counter=(stream << _STREAM_BITS) + first * blocks)
    words = np.asarray(generator.random_raw(count * blocks * _WORDS_PER_BLOCK), dtype=np.uint64)
    words = words.reshape(count, blocks * _WORDS_PER_BLOCK)[:, :size]
    # 52 bits and a half: the midpoint of each cell is exact in float64 and never 0 or 1.
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normals(seed: int, purpose: Purpose, first: int, count: int, size: int, stream: int = 0) -> NDArray[np.float32]:
    """Draw (count, size) float32 from N(0, 1) for the rows first … first + count - 1.

    Raises:
        ValueError: as `uniforms`.
    """
    return inverse_normal_cdf(uniforms(seed, purpose, first, count, size, stream)).astype(np.float32)


def inverse_normal_cdf(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities in (0, 1), any shape, to standard normal quantiles, relative accuracy about 1e-16.

    Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution", routine PPND16.
    """
    centred = probabilities - 0.5
    squared = 0.180625 - centred * centred
    quantiles = centred * _ratio(squared, _CENTRAL)
    tail = np.abs(centred) > 0.425  # noqa: PLR2004 (the split of AS 241)
    quantiles[tail] = _tail_quantiles(probabilities[tail])
    return quantiles


def _tail_quantiles(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = np.sqrt(-_log(np.minimum(probabilities, 1.0 - probabilities)))
    near = _ratio(radius - 1.6, _NEAR_TAIL)
    far = _ratio(radius - 5.0, _FAR_TAIL)
    return np.copysign(np.where(radius <= 5.0, near, far), probabilities - 0.5)  # noqa: PLR2004 (likewise)


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # numpy's log takes a code path per processor and may differ in the last bit; this uses only operations that
    # IEEE 754 rounds exactly: ln(m 2^e) = e ln 2 + 2 artanh((m - 1) / (m + 1)), m from sqrt(1/2) to sqrt(2).
    mantissas, exponents = np.frexp(values)
    low = mantissas < np.sqrt(0.5)
    mantissas = np.where(low, mantissas * 2.0, mantissas)
    exponents = np.where(low, exponents - 1, exponents).astype(np.float64)
    ratio = (mantissas - 1.0) / (mantissas + 1.0)
    series = _polynomial(ratio * ratio, _ARTANH)
    return exponents * _LN_2 + 2.0 * ratio * series


def _ratio(
    values: NDArray[np.float64], coefficients: tuple[tuple[float, ...], tuple[float, ...]]
) -> NDArray[np.float64]:
    numerator, denominator = coefficients
    return _polynomial(values, numerator) / _polynomial(values, denominator)


def _polynomial(values: NDArray[np.float64], coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    """Horner's rule; coefficients from the constant up."""
    total = np.full_like(values, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * values + coefficient
    return total


_LN_2 = 0.6931471805599453
_ARTANH = tuple(1.0 / n for n in range(1, 26, 2))
# Numerator and denominator of AS 241, as printed there.
_CENTRAL = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_NEAR_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)
