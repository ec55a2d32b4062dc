"""What a check comes to, and what all checks are told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

State: TypeAlias = Literal["passed", "failed", "skipped"]
Device: TypeAlias = Literal["cuda", "cpu"]
ROOT = Path(__file__).resolve().parents[2]
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


@dataclass(frozen=True)
class Setting:
    """Where and on what the checks run."""

    repository: Path
    scratch: Path
    """A folder for logs and for repositories that a check makes."""
    device: Device = "cuda"
    """`cpu` runs the same code without a card, which proves the code and says nothing of CUDA."""
    seconds: float = 3.0
    """Of each timed stretch."""

    @property
    def provider(self) -> str:
        """Onnxruntime's name of the device."""
        return PROVIDERS[self.device]


@dataclass(frozen=True)
class Outcome:
    """One row of the page: a sentence with figures."""

    check: str
    state: State
    sentence: str


Check: TypeAlias = Callable[[Setting], list[Outcome]]


class Unavailable(Exception):  # noqa: N818 (nothing is wrong)
    """What a check needs is not here; the text says what."""


def verdict(check: str, sentence: str, *, holds: bool) -> Outcome:
    """Passed or failed."""
    return Outcome(check, "passed" if holds else "failed", sentence)
