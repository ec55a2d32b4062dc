"""Weights files: safetensors, .pt and .pth (tensors alone, nothing is executed) or .npz, into a module."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from bundle.errors import quotable
from export.errors import InputError
from export.gate.weights import unfit_weights

_SHOWN = 3
# Where trainers put the tensors inside a file that holds more than these.
_NESTED = ("state_dict", "model", "model_state_dict")
_PICKLES = frozenset({".pt", ".pth", ".bin", ".ckpt"})


def load_weights(module: nn.Module, file: Path) -> None:
    """Put the tensors of a file into a module, each under its own name.

    Raises:
        InputError: the file is unreadable; tensors are missing, extra, of another shape, or not finite.
    """
    found, expected = read_tensors(file), module.state_dict()
    problems = [
        *_listed("missing", [name for name in expected if name not in found]),
        *_listed("extra", [name for name in found if name not in expected]),
        *_listed(
            "of another shape",
            [
                f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
                for name, tensor in expected.items()
                if name in found and found[name].shape != tensor.shape
            ],
        ),
    ]
    if problems:
        raise InputError(f"{file}: expected the tensors of {type(module).__name__}, got {'; '.join(problems)}")
    module.load_state_dict(found)
    check_finite(module, str(file))


def check_finite(module: nn.Module, where: str) -> None:
    """Refuse NaN and infinity among a module's tensors.

    Raises:
        InputError: there are some.
    """
    if unfit := unfit_weights(module):
        raise InputError(f"{where}: expected finite weights, got NaN or infinity in {', '.join(unfit[:_SHOWN])}")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not file.is_file():
        raise InputError(
            f"{file}: expected a file of weights, got none: give --weights a .safetensors, .pt or .npz file"
        )
    suffix = file.suffix.lower()
    try:
        if suffix == ".safetensors":
            return load_safetensors(file.read_bytes())
        if suffix == ".npz":
            return _read_npz(file)
        if suffix in _PICKLES:
            return _tensors(torch.load(file, map_location="cpu", weights_only=True))
    except UnpicklingError as error:
        raise InputError(f"{file}: expected tensors alone, got other objects: save module.state_dict()") from error
    except Exception as error:
        reason = quotable(next(iter(str(error).splitlines()), type(error).__name__))[:200]
        raise InputError(f"{file}: expected a readable file of tensors by name: {reason}") from error
    raise InputError(f"{file}: expected weights in a .safetensors, .pt, .pth or .npz file")


def sha256(module: nn.Module) -> str:
    """SHA-256 of a module's tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _read_npz(file: Path) -> dict[str, Tensor]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def _tensors(content: Any) -> dict[str, Tensor]:  # noqa: ANN401 (whatever the file holds)
    for name in _NESTED:
        if isinstance(content, Mapping) and isinstance(cast("Mapping[str, Any]", content).get(name), Mapping):
            content = content[name]
    named = cast("dict[str, Any]", content) if isinstance(content, Mapping) else {}
    if not named or not all(isinstance(each, Tensor) for each in named.values()):
        raise ValueError("got other objects: save module.state_dict()")
    return dict(named)


def _listed(what: str, names: list[str]) -> list[str]:
    """A phrase about some names, the first few of them; none where there are none."""
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what}: {', '.join(quotable(each) for each in names[:_SHOWN])}{more}"]
