"""Misplaced models: entries of a repository that look like a model and are not served, and the name that would work."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bundle import layout
from bundle.errors import BundleError
from bundle.files import FileIdentity, identity
from server.models.lifecycle import brief

_LOGGER = logging.getLogger(__name__)
# The repository may hold anything, and is looked through at every poll.
_MAX_ENTRIES = 100
"""Entries of a folder that are looked at for signs of a model."""
_MAX_SUBFOLDERS = 10
"""Of these, entries that are looked into."""
_MAX_FOUND = 100
"""Entries that are remembered, to report each once."""
_MAX_LINES = 20
"""Entries that are logged in one poll."""
_SHORT_CHARACTERS = 60
_NAME_RULE = "a model's name has only a-z, 0-9 and -, and begins with a letter or digit"
_VERSION_RULE = "a version is a whole number from 1, without leading zeros"
_PLACE_RULE = "expected <name>/<version>/model.json"
_REPOSITORY_ADVICE = "--repository takes the folder above <name>"
_IMPORT_ADVICE = "it is written last, and `python -m export import` makes a bundle of ONNX files"


class Misplaced(NamedTuple):
    """An entry that is not served."""

    path: str
    """Relative to the repository."""
    why: str

    @property
    def model(self) -> str:
        """Name of the repository's entry that it is, or lies in."""
        return self.path.partition("/")[0]


class MisplacedModels:
    """What was found in one look at a repository; each entry is logged once, and again when its reason changes."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._found: dict[str, str] = {}
        self._logged: tuple[Misplaced, ...] = ()
        self._more = 0
        self._stated: dict[str, tuple[FileIdentity | None, str | None]] = {}

    @property
    def found(self) -> tuple[Misplaced, ...]:
        """Entries as of the last look, in alphabetical order, a hundred at most."""
        return self._logged

    def begin(self) -> None:
        """Begin another look."""
        self._found = {}
        self._more = 0

    def end(self) -> None:
        """Log what is new."""
        found = tuple(Misplaced(*each) for each in sorted(self._found.items()))
        new = [each for each in found if each not in self._logged]
        for each in new[:_MAX_LINES]:
            _LOGGER.warning("%s is not served: %s", each.path, each.why)
        if len(new) > _MAX_LINES:
            _LOGGER.warning("%d more entries are not served", len(new) - _MAX_LINES + self._more)
        self._logged = found
        self._stated = {path: known for path, known in self._stated.items() if path in self._found}

    def add(self, path: str, why: str) -> None:
        """Note an entry that is not served."""
        if len(self._found) < _MAX_FOUND:
            self._found[brief(path)] = brief(why)
        else:
            self._more += 1

    def look_at_repository(self, names: list[str]) -> None:
        """Look for models among the entries of the repository that have no model's name."""
        file = _first_sign(names)
        if file is not None:
            self.add(file, f"{_PLACE_RULE}: it lies in the repository itself; {_REPOSITORY_ADVICE}")
        for name in _visible(names):
            sign = _sign(self._repository / name, 2)
            if sign is not None:
                self._explain(name, sign, _NAME_RULE, f"rename it to {_model_name(name)}")

    def look_at_model(self, model: str, names: list[str], *, serves: bool) -> None:
        """Look for versions among the entries of a model's folder that are none."""
        folder = self._repository / model
        file = _first_sign(names)
        if file == layout.MODEL_FILE or (file is not None and not serves):
            advice = _REPOSITORY_ADVICE if model.isdecimal() else f"move it to {model}/1"
            self._explain(model, _short(file), f"{_PLACE_RULE}, got <name>/{_short(file)}", advice)
        for name in _visible(name for name in names if not layout.VERSION_PATTERN.fullmatch(name)):
            sign = _sign(folder / name, 2)
            if sign is not None:
                self._explain(f"{model}/{name}", sign, _VERSION_RULE, f"rename it to {model}/{_version(name)}")
        if not serves:
            self._look_at_versions(model, sorted(name for name in names if layout.VERSION_PATTERN.fullmatch(name)))

    def _look_at_versions(self, model: str, versions: list[str]) -> None:
        """Look for graphs in the folders of versions without a model.json, when a model has no other."""
        for version in versions[:_MAX_ENTRIES]:
            sign = _sign(self._repository / model / version, 1)
            if sign is not None and "/" not in sign:
                self.add(f"{model}/{version}", f"expected model.json next to {_short(sign)}: {_IMPORT_ADVICE}")

    def _explain(self, path: str, sign: str, rule: str, advice: str) -> None:
        """Note an entry with the rule that it breaks, and the place that its model.json states."""
        inside, _, file = sign.rpartition("/")
        stated = self._place(path, inside) if file == layout.MODEL_FILE else None
        lies = f"{path}/{inside}".rstrip("/")
        if stated is not None:
            advice = f"the files of {_short(lies)} belong in {stated}, as its model.json states"
        elif file != layout.MODEL_FILE:
            advice = f"{advice}; {_IMPORT_ADVICE}"
        self.add(path, f"{rule}: {advice}")

    def _place(self, path: str, inside: str) -> str | None:
        """<name>/<version> as a model.json states them; None where it is none."""
        folder = self._repository / path / inside
        found = identity(folder / layout.MODEL_FILE)
        known = self._stated.get(brief(path))
        if known is None or known[0] != found:
            known = found, None
            with suppress(BundleError):
                model = layout.read_model(folder)
                known = found, f"{model.name}/{model.version}"
            self._stated[brief(path)] = known
        return known[1]


def _visible(names: Iterator[str] | list[str]) -> list[str]:
    """The first of some names in alphabetical order; hidden ones are nobody's models (staging, snapshots)."""
    return sorted(name for name in names if not name.startswith(".") and not _is_sign(name))[:_MAX_ENTRIES]


def _is_sign(name: str) -> bool:
    return name == layout.MODEL_FILE or name.endswith(".onnx")


def _first_sign(names: list[str]) -> str | None:
    if layout.MODEL_FILE in names:
        return layout.MODEL_FILE
    return min(filter(_is_sign, names), default=None)


def _sign(folder: Path, depth: int) -> str | None:
    """Path, in a folder, of the first file that only a model has, this deep at most; None where there is none."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _MAX_ENTRIES))
    except OSError:
        return None
    if (sign := _first_sign(names)) is not None:
        return sign
    for name in names[:_MAX_SUBFOLDERS] if depth > 1 else ():
        deeper = _sign(folder / name, depth - 1)
        if deeper is not None:
            return f"{name}/{deeper}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHORT_CHARACTERS else f"{text[: _SHORT_CHARACTERS - 1]}…"


def _model_name(name: str) -> str:
    """A model's name like this one."""
    return _short(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model")


def _version(name: str) -> int:
    """A version like this one."""
    digits = re.search(r"[1-9][0-9]{0,8}", name)
    return 1 if digits is None else int(digits[0])
