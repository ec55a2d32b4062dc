"""Imports what builds a module: PACKAGE.MODULE:BUILD, a class or a function, and its arguments."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bundle.errors import quotable
from export.errors import InputError


def build_module(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import `package.module:build` and call it.

    Raises:
        InputError: it cannot be imported or called, or gives something else than a module.
    """
    build = _imported(name)
    try:
        module = build(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise InputError(f"{name}({given}) failed: {in_a_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{name}: expected it to return a torch.nn.Module, got {type(module).__name__}")
    return module


def in_a_line(error: BaseException) -> str:
    """An exception of somebody's code as its type and the first line of its text."""
    text = next(iter(str(error).strip().splitlines()), "")
    return quotable(f"{type(error).__name__}: {text}" if text else type(error).__name__)[:300]


def _imported(name: str) -> Any:  # noqa: ANN401 (a class or function of the user's)
    path, _, attribute = name.partition(":")
    if not path or not attribute:
        raise InputError(f"expected PACKAGE.MODULE:BUILD, as in nets.mine:Denoiser, got {name!r}")
    # As `python -m` does for itself: the folder that the command runs in.
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(path)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        reason = f"{name}: expected something to import in {Path.cwd()} or on PYTHONPATH: {in_a_line(error)}"
        raise InputError(reason) from error
    if not callable(found):
        raise InputError(f"{name}: expected a class or function, got {type(found).__name__}")
    return found
