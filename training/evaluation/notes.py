"""Notes on a finished run: what is left out and why (graceful degradation), and what its user should know."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from training import cpu
from training.errors import UnavailableError, one_line
from training.evaluation.journal import Journal

# What numerical libraries raise for data that they cannot take. TypeError, LookupError and AttributeError are mistakes
# in this code: they pass, so that tests see them.
_REFUSALS = (ValueError, ArithmeticError, RuntimeError, MemoryError)

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Notes:
    """Sentences for the report, the checkpoint and the terminal; what a journal says was fatal is left out."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.sentences: list[str] = []
        self._journal = journal

    def add(self, sentence: str) -> None:
        """Add a sentence and log it, once."""
        if sentence in self.sentences:
            return
        self.sentences.append(sentence)
        _log.warning("note: %s", sentence)

    def attempt(self, what: str, compute: Callable[[], _T], otherwise: _T) -> _T:
        """What `compute` returns; `otherwise`, and a note that `what` is left out, if that cannot be had.

        Functions know most of what they need and raise UnavailableError; an error of a library is the last resort.
        """
        try:
            with self._journal.computing(what) if self._journal else nullcontext():
                return compute()
        except UnavailableError as error:
            reason = str(error)
        except _REFUSALS as error:
            known = cpu.is_out_of_memory(error)
            reason = "memory does not suffice" if known else f"{type(error).__name__}: {one_line(error)}"
        self.add(f"{what}: left out, because {reason}")
        return otherwise
