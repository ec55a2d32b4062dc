import json
from pathlib import Path

import pytest

from training.errors import UnavailableError
from training.evaluation import journal
from training.evaluation.journal import Journal
from training.evaluation.notes import Notes


def dies_computing(folder: Path, monkeypatch: pytest.MonkeyPatch, *, kills: int) -> None:
    """Leave the file as a process does that ends without a last word, while the kernel has killed so many since."""
    begun = Journal(folder)
    with begun.computing("latent statistics"), begun.computing("a part of them"):
        left = (folder / ".evaluating").read_text()
    (folder / ".evaluating").write_text(left)
    before = json.loads(left)["kills"]
    monkeypatch.setattr(journal, "_memory_kills", lambda: before + kills)


def test_what_exhausted_the_memory_is_left_out_and_noted_once_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_computing(tmp_path, monkeypatch, kills=1)
    notes = Notes(Journal(tmp_path))
    assert notes.attempt("a part of them", lambda: 1, 0) == 0
    assert "a part of them: left out, because the kernel ended the run for lack of memory" in notes.sentences[0]
    assert notes.attempt("latent statistics", lambda: 1, 0) == 1
    # The next process knows it too, until the end is reached.
    with pytest.raises(UnavailableError), Journal(tmp_path).computing("a part of them"):
        pass


def test_a_process_that_was_ended_otherwise_is_repeated_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_computing(tmp_path, monkeypatch, kills=0)
    assert Notes(Journal(tmp_path)).attempt("a part of them", lambda: 1, 0) == 1


def test_nothing_is_left_of_it_at_the_end(tmp_path: Path) -> None:
    kept = Journal(tmp_path)
    with pytest.raises(MemoryError), kept.computing("samples"):
        raise MemoryError
    assert json.loads((tmp_path / ".evaluating").read_text())["begun"] == []
    kept.close()
    assert not (tmp_path / ".evaluating").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"begun": 3}', "\x00", '{"begun": [1], "left_out": [], "kills": "x"}'])
def test_a_damaged_file_says_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / ".evaluating").write_text(content)
    assert Notes(Journal(tmp_path)).attempt("samples", lambda: 1, 0) == 1
