"""Outcome of a check, and the settings of all checks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

State: TypeAlias = Literal["passed", "failed", "skipped"]
Device: TypeAlias = Literal["cuda", "cpu"]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Setting:
    """Where and on what the checks run."""

    repository: Path
    scratch: Path
    """A folder for logs and for repositories that a check makes."""
    device: Device = "cuda"
    """`cpu` runs the same code without a card, which tests the code but says nothing about CUDA."""
    seconds: float = 3.0
    """Length of each timed run."""

    @property
    def provider(self) -> str:
        """Onnxruntime's name of the device."""
        # Without a card, nothing but Python need be installed.
        from bundle.runtime_options import PROVIDER_NAMES  # noqa: PLC0415

        return PROVIDER_NAMES[self.device]


@dataclass(frozen=True)
class Outcome:
    """One row of the page: a sentence with figures."""

    check: str
    state: State
    sentence: str


Check: TypeAlias = Callable[[Setting], list[Outcome]]


class Unavailable(Exception):  # noqa: N818 (nothing is wrong)
    """A requirement of a check is missing; the text says which."""


def verdict(check: str, sentence: str, *, holds: bool) -> Outcome:
    """Passed or failed."""
    return Outcome(check, "passed" if holds else "failed", sentence)
