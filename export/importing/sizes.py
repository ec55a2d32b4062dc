"""Sizes that a graph of free height and width takes, found by trying them; runs in the sandbox."""

from collections.abc import Iterator
from typing import NamedTuple

from autoencoder.v1.model_pb2 import Signature

from bundle import replay
from bundle.errors import BundleError
from export.gate.session import Session, open_session

# Networks halve; the last of these is 6 times.
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
# Cells that tell multiples apart, as an odd number of them; more than any padding by reflection wants.
_PLENTY = 33
_LARGEST_MINIMUM = 128


class Found(NamedTuple):
    """What was found, in cells of the graph's input: pixels, or cells of latents."""

    multiple: int
    minimum: int
    """A multiple of `multiple`."""
    ratio: float
    """Cells of the first output for each of the input, along each axis; 0 where the output has no height and width."""


def find(graph: bytes, signature: Signature, multiple: int, minimum: int) -> Found:
    """Find the smallest multiple and side that give outputs of one ratio to the input; 0: not known, try.

    Raises:
        BundleError: none does.
    """
    session = open_session(graph, quiet=True)
    for step in (multiple,) if multiple else _MULTIPLES:
        ratio = _ratio(session, signature, step)
        if ratio is not None:
            return Found(step, _minimum(session, signature, step, ratio, minimum), ratio)
    tried = f"multiples of {multiple}" if multiple else f"any multiple up to {_MULTIPLES[-1]}"
    raise BundleError(
        f"expected outputs of one ratio to height and width for images in {tried}, got others: give --multiple, or "
        "--image-shape HxWxC for one size"
    )


def _ratio(session: Session, signature: Signature, step: int) -> float | None:
    """The ratio that all sizes share in odd multiples of a step; None where they do not."""
    odd = max(1, -(-_PLENTY // step) | 1)
    found = {
        _ratio_at(session, signature, (step * tall, step * wide))
        for tall, wide in ((odd, odd + 2), (odd + 4, odd), (odd + 2, odd + 2))
    }
    return found.pop() if len(found) == 1 else None


def _minimum(session: Session, signature: Signature, step: int, ratio: float, given: int) -> int:
    """The smallest side, from the one given on, that runs beside itself and beside one multiple more."""
    for side in _sides(step, given):
        if all(_ratio_at(session, signature, (side, wide)) == ratio for wide in (side, side + step)):
            return side
    raise BundleError(f"expected a graph that takes images of {_LARGEST_MINIMUM} pixels, got one that fails: --minimum")


def _sides(step: int, given: int) -> Iterator[int]:
    first = max(1, -(-given // step)) * step
    yield from range(first, max(first, _LARGEST_MINIMUM) + 1, step)


def _ratio_at(session: Session, signature: Signature, size: tuple[int, int]) -> float | None:
    """Ratio of the first output to an input of this size; None where the graph fails, or the axes have two."""
    try:
        output = next(iter(session.run_rows(replay.noise(signature, size)).values()))
    except BundleError:
        return None
    if output.ndim != 4:  # noqa: PLR2004 (a batch of images)
        return 0.0
    ratios = {round(float(one / other), 9) for one, other in zip(output.shape[1:3], size, strict=True)}
    return ratios.pop() if len(ratios) == 1 else None
