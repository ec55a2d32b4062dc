"""The pixels that a network made elsewhere was trained on, where they are not 0 … 1; and how a command line says so."""

import argparse
import re
from dataclasses import dataclass

from export.errors import InputError


@dataclass(frozen=True)
class Scaling:
    """What a module sees of pixels in 0 … 1: (pixels - mean) / std, for each channel or for all alike."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scaling":
        """Pixels of 0 … 1 to low … high."""
        return cls((-low / (high - low),), (1 / (high - low),))

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return set(self.mean) != {0.0} or set(self.std) != {1.0}

    def check(self, channels: int) -> None:
        """Refuse what fits no image of so many channels.

        Raises:
            InputError: a wrong number of values, or a spread that is not positive.
        """
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            got = f"{len(self.mean)} and {len(self.std)}"
            raise InputError(f"expected one mean and one std, or one for each of {channels} channels, got {got}")
        if min(self.std) <= 0:
            raise InputError(f"expected standard deviations above 0, got {', '.join(map(str, self.std))}")


PLAIN = Scaling()
"""Of a network that was trained on pixels in 0 … 1."""


def add_scaling(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `chosen_scaling` reads."""
    add = parser.add_argument
    add("--range", type=_range, metavar="LOW:HIGH", help="pixels that the network was trained on; by default 0:1")
    add("--mean", type=numbers, metavar="M[,M,M]", help="subtracted from pixels in 0 … 1, for each channel")
    add("--std", type=numbers, metavar="S[,S,S]", help="divides them after that")


def chosen_scaling(options: argparse.Namespace) -> Scaling:
    """Read the arguments of `add_scaling`.

    Raises:
        InputError: a range beside a mean or a standard deviation.
    """
    if options.range is not None:
        if options.mean is not None or options.std is not None:
            raise InputError("expected --range, or --mean and --std, got both")
        return Scaling.of_range(*options.range)
    return Scaling(options.mean or (0.0,), options.std or (1.0,))


def _range(text: str) -> tuple[float, float]:
    ends = numbers(text.replace(":", ","))
    if len(ends) != 2 or not ends[0] < ends[1]:  # noqa: PLR2004 (both ends)
        raise argparse.ArgumentTypeError(f"expected LOW:HIGH as in -1:1, got {text!r}")
    return ends[0], ends[1]


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, as an argument of a command line."""
    try:
        found = tuple(float(each) for each in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(abs(each) < float("inf") for each in found):
        raise argparse.ArgumentTypeError(f"expected numbers as in 0.5 or 0.485,0.456,0.406, got {text!r}")
    return found


def joined(given: list[str]) -> list[str]:
    """Join options with values that begin with a minus, which argparse takes for another option."""
    words = list(given)
    for place in range(len(words) - 2, -1, -1):
        if words[place] in {"--range", "--mean"} and re.match(r"-[\d.]", words[place + 1]):
            words[place : place + 2] = [f"{words[place]}={words[place + 1]}"]
    return words


def positive(text: str) -> int:
    """A number of pixels, as an argument of a command line."""
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"expected a number of pixels from 1, got {text!r}")
    return int(text)


def image_shape(text: str) -> tuple[int, int, int]:
    """Height, width and channels as in 28x28x1, as an argument of a command line."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([13])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HxWxC with 1 or 3 channels as in 28x28x1, got {text!r}")
    height, width, channels = map(int, match.groups())
    return height, width, channels
