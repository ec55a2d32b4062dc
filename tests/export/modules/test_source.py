"""What builds a module: imported from the folder of the command, called with arguments."""

from pathlib import Path

import pytest
from torch import nn

from export.errors import InputError
from export.modules.source import build_module

TEXT = """
from torch import nn

class Net(nn.Linear):
    def __init__(self, size=3):
        super().__init__(size, size)

def fails():
    raise ValueError("first line\\nsecond line")

def number():
    return 3

class Holder:
    Inner = Net
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_source.py").write_text(TEXT)


def test_a_class_is_called_with_its_arguments() -> None:
    module = build_module("users_source:Net", {"size": 5})
    assert isinstance(module, nn.Linear)
    assert module.in_features == 5
    assert isinstance(build_module("users_source:Holder.Inner", {}), nn.Linear)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("users_source", "expected PACKAGE.MODULE:BUILD"),
        ("no_such:Net", "expected something to import in .*ModuleNotFoundError: No module named 'no_such'"),
        ("users_source:Nut", "expected something to import in .*has no attribute 'Nut'"),
        ("users_source:TEXT", "has no attribute 'TEXT'"),
        ("users_source:fails", r"users_source:fails\(\) failed: ValueError: first line$"),
        ("users_source:number", r"expected it to return a torch\.nn\.Module, got int"),
        ("users_source:nn", "expected a class or function, got module"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build_module(name, {})
