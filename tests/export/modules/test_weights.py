"""Weights files of every kind, and what is wrong with others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from export.errors import InputError
from export.modules.weights import load_weights, sha256
from tests.export.modules import user_modules as users

Tensors = dict[str, Tensor]


def tensors() -> Tensors:
    torch.manual_seed(1)
    return users.Denoiser().state_dict()


WRITERS: dict[str, Callable[[Tensors, Path], None]] = {
    "w.safetensors": save_file,
    "w.pt": torch.save,
    "w.pth": lambda found, file: torch.save({"state_dict": found, "epoch": 3}, file),
    "w.npz": lambda found, file: np.savez(file, **{name: each.numpy() for name, each in found.items()}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    module, expected = users.Denoiser(), users.Denoiser()
    expected.load_state_dict(tensors())
    WRITERS[name](tensors(), tmp_path / name)
    load_weights(module, tmp_path / name)
    assert sha256(module) == sha256(expected)


DAMAGE: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "missing": (lambda found: found.pop("body.0.bias"), r"got missing: body\.0\.bias$"),
    "extra": (lambda found: found.update(stranger=torch.ones(2)), "got extra: stranger$"),
    "of another shape": (
        lambda found: found.update({"body.0.bias": torch.ones(2)}),
        r"got of another shape: body\.0\.bias \(2,\) instead of \(1,\)$",
    ),
    "not finite": (lambda found: found["body.0.bias"].fill_(torch.nan), r"NaN or infinity in body\.0\.bias"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_other_tensors_are_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    change, sentence = DAMAGE[what]
    found = tensors()
    change(found)
    torch.save(found, tmp_path / "w.pt")
    with pytest.raises(InputError, match=sentence):
        load_weights(users.Denoiser(), tmp_path / "w.pt")


def test_a_pickled_module_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(users.Denoiser(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"expected tensors alone, got other objects: save module\.state_dict\(\)"):
        load_weights(users.Denoiser(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("w.npz", b"no archive", "expected a readable file of tensors by name"),
        ("w.safetensors", b"\xff" * 20, "expected a readable file of tensors by name"),
        ("w.bin", b"PK", "expected a readable file of tensors by name|expected tensors alone"),
        ("w.onnx", b"", r"expected weights in a \.safetensors, \.pt, \.pth or \.npz file"),
    ],
)
def test_files_of_other_kinds_are_refused(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        load_weights(users.Denoiser(), tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file of weights, got none"):
        load_weights(users.Denoiser(), tmp_path / "w.pt")
