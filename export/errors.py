"""Errors of export; each message says what was expected, what was found and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass


class ExportError(Exception):
    """Export failed; nothing was written."""


class InputError(ExportError):
    """An input from the user is unusable."""


@dataclass(frozen=True)
class Failure:
    """One finding for which a check refused: which graph, on which input, how far off."""

    signature: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.signature}: {self.where}: {self.detail}" if self.where else f"{self.signature}: {self.detail}"


class GateError(ExportError):
    """A check of the gate refused; `check` is its name, `failures` what it found."""

    def __init__(self, check: str, failures: Sequence[Failure]) -> None:
        super().__init__("\n  ".join([f"refused by the check of {check}:", *map(str, failures)]))
        self.check = check
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle, which would pass the text alone to the constructor."""
        return type(self), (self.check, self.failures), self.__dict__
