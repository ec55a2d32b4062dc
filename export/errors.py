"""What goes wrong in export; each message says what was expected, what came and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass


class ExportError(Exception):
    """Export cannot go on; nothing was written."""


class InputError(ExportError):
    """Something that the user gave is unusable."""


@dataclass(frozen=True)
class Failure:
    """One thing that a check of the gate refused: which graph, on which input, how far."""

    signature: str
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.signature}: {self.where}: {self.detail}" if self.where else f"{self.signature}: {self.detail}"


class GateError(ExportError):
    """The gate refused; `check` names the check, `failures` what it found."""

    def __init__(self, check: str, failures: Sequence[Failure]) -> None:
        super().__init__("\n  ".join([f"refused by the check of {check}:", *map(str, failures)]))
        self.check = check
        self.failures = tuple(failures)

    def __reduce__(self) -> tuple[object, ...]:
        """What makes it again on the other side of a pipe: its text alone would not."""
        return type(self), (self.check, self.failures), self.__dict__
