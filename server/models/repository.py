"""Model repository on disk: names, versions, fingerprints, labels, and the policy that says which versions to serve."""

import logging
import os
import stat
from collections.abc import Collection, Container
from pathlib import Path

from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.errors import BundleError
from bundle.files import FileIdentity, identity
from server.models.labels import LabelReader
from server.models.lifecycle import Fingerprint, Key
from server.models.misplaced import Misplaced, MisplacedModels

_LOGGER = logging.getLogger(__name__)
# A bundle has about ten; a list of many must not make every poll long.
_MAX_FINGERPRINT_FILES = 100


class Repository:
    """Reads a folder of models. An entry that cannot be looked at is reported, and keeps no other from being found.

    `policy` is latest (the newest version that passes its checks), all, or version numbers with commas between.
    """

    def __init__(self, folder: Path, policy: str) -> None:
        self._folder = folder
        self._policy = policy
        self._labels = LabelReader(folder)
        self._misplaced = MisplacedModels(folder)
        self._listed: dict[Key, tuple[FileIdentity | None, list[str]]] = {}
        self._seen: set[Key] = set()
        self._problem = ""

    @property
    def newest_only(self) -> bool:
        """Whether only the newest version that passes its checks is to serve."""
        return self._policy == "latest"

    @property
    def labels(self) -> dict[str, dict[str, int]]:
        """Labels of each model as last read, with their versions."""
        return self._labels.labels

    @property
    def misplaced(self) -> tuple[Misplaced, ...]:
        """What looks like a model and is not served, as of the last look."""
        return self._misplaced.found

    @property
    def problem(self) -> str:
        """Why the repository could not be read when last looked at; empty when it could."""
        return self._problem

    def names(self) -> list[str]:
        """Models on disk, in alphabetical order; from any thread."""
        return layout.model_names(self._folder)

    def look(self) -> list[str] | None:
        """Begin a look: names of models, in alphabetical order; None when the folder cannot be read, logged once."""
        try:
            with os.scandir(self._folder) as entries:
                folders = {entry.name: _may_be_folder(entry) for entry in entries}
        except OSError as error:
            self._note_problem(error)
            return None
        self._problem = ""
        self._seen = set()
        names = sorted(name for name, folder in folders.items() if folder and layout.NAME_PATTERN.fullmatch(name))
        self._misplaced.begin()
        self._misplaced.look_at_repository([name for name in folders if not layout.NAME_PATTERN.fullmatch(name)])
        return names

    def end_look(self) -> None:
        """Log what is misplaced, once each."""
        self._misplaced.end()
        self._listed = {key: files for key, files in self._listed.items() if key in self._seen}

    def versions(self, name: str, serving: Collection[int]) -> list[int]:
        """Versions of a model, ascending; those that serve stay while they cannot be looked at."""
        folder = self._folder / name
        try:
            entries = os.listdir(folder)  # noqa: PTH208 (names, without a path object for each)
        except FileNotFoundError as error:
            if folder.is_symlink():
                self._misplaced.add(name, _unreadable(error))
            return []
        except OSError as error:
            self._misplaced.add(name, _unreadable(error))
            return sorted(serving)
        found = [int(entry) for entry in entries if layout.VERSION_PATTERN.fullmatch(entry)]
        versions = sorted(version for version in found if self._is_version((name, version), serving))
        self._misplaced.look_at_model(name, entries, serves=bool(versions))
        self._seen.update((name, version) for version in versions)
        return versions

    def first_candidate(self, name: str) -> Key | None:
        """Version of a model that is to be loaded before its others; None where there is none, or none can be seen."""
        try:
            entries = os.listdir(self._folder / name)  # noqa: PTH208 (as above)
        except OSError:
            return None
        found = [int(entry) for entry in entries if layout.VERSION_PATTERN.fullmatch(entry)]
        keys = ((name, version) for version in self.candidates(found))
        return next((key for key in keys if self._is_version(key, ())), None)

    def candidates(self, versions: list[int]) -> list[int]:
        """Those of a model's versions that the policy admits, the newest first."""
        if self._policy in {"latest", "all"}:
            return sorted(versions, reverse=True)
        return sorted({int(number) for number in self._policy.split(",")} & set(versions), reverse=True)

    def folder(self, key: Key) -> Path:
        """Folder of one version."""
        return layout.version_folder(self._folder, *key)

    def fingerprint(self, key: Key) -> Fingerprint:
        """Fingerprint of model.json, its signature and the files that it lists; others do not count."""
        folder = self.folder(key)
        described = identity(folder / layout.MODEL_FILE)
        known = self._listed.get(key)
        if known is None or known[0] != described:
            known = self._listed[key] = described, _listed_files(folder)
        return described, identity(folder / layout.SIGNING_FILE), *(identity(folder / file) for file in known[1])

    def holds(self, key: Key, model: Model) -> bool:
        """Whether the files of a version are those that this description was read with; reads them all."""
        folder = self.folder(key)
        try:
            if layout.read_model(folder) != model:
                return False
            for file in model.files:
                layout.read_listed(folder, file)
        except BundleError:
            return False
        return True

    def read_labels(self, name: str, loaded: Container[int]) -> None:
        """Read a model's labels again; those of versions that are not loaded do not count."""
        self._labels.read(name, loaded)

    def shorten(self, text: str) -> str:
        """The same text with paths relative to the repository, for clients."""
        return text.replace(f"{self._folder}/", "")

    def _is_version(self, key: Key, serving: Collection[int]) -> bool:
        try:
            return stat.S_ISREG((self.folder(key) / layout.MODEL_FILE).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._misplaced.add(f"{key[0]}/{key[1]}", _unreadable(error))
            return key[1] in serving

    def _note_problem(self, error: OSError) -> None:
        gone = isinstance(error, (FileNotFoundError, NotADirectoryError))
        problem = "is not a directory" if gone else _unreadable(error)
        if problem != self._problem:
            _LOGGER.error("%s %s: nothing new can be loaded; loaded models keep serving", self._folder, problem)
        self._problem = problem


def _may_be_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"


def _listed_files(folder: Path) -> list[str]:
    """Files that a version's model.json lists; none when it is not one."""
    try:
        return [file.path for file in layout.read_model(folder).files[:_MAX_FINGERPRINT_FILES]]
    except BundleError:
        return []
