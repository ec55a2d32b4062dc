import logging

import numpy as np
import pytest
import torch

from training.errors import StoppedError, UnavailableError
from training.evaluation.notes import Notes


def raising(error: Exception) -> float:
    raise error


def test_what_can_be_had_needs_no_note() -> None:
    notes = Notes()
    assert notes.attempt("mse", lambda: 0.5, 0.0) == 0.5
    assert not notes.sentences


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnavailableError("there is one image"), "there is one image"),
        (ValueError("n_components=20\n  must be"), "ValueError: n_components=20 must be"),
        (np.linalg.LinAlgError("no convergence"), "LinAlgError: no convergence"),
        (RuntimeError("padding"), "RuntimeError: padding"),
        (ZeroDivisionError("division"), "ZeroDivisionError: division"),
        (MemoryError(), "memory does not suffice"),
    ],
)
def test_what_cannot_be_had_is_left_out_with_a_reason(
    error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()
    with caplog.at_level(logging.WARNING):
        assert notes.attempt("mse", lambda: raising(error), -1.0) == -1.0
    assert notes.sentences == [f"mse: left out, because {reason}"]
    assert notes.sentences[0] in caplog.text


def test_memory_that_torch_cannot_have_is_told_from_other_errors() -> None:
    notes = Notes()
    assert notes.attempt("samples.png", lambda: torch.empty(2**60), None) is None
    assert notes.sentences == ["samples.png: left out, because memory does not suffice"]


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), AttributeError("x"), OSError("x"), StoppedError("x")])
def test_mistakes_and_full_disks_are_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        Notes().attempt("mse", lambda: raising(error), 0.0)


def test_a_sentence_is_noted_once() -> None:
    notes = Notes()
    notes.add("ssim: left out")
    notes.add("ssim: left out")
    assert notes.sentences == ["ssim: left out"]
