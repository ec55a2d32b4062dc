"""Model repository on disk: names, versions, fingerprints, labels, and the policy that says which versions to serve."""

import logging
from collections.abc import Container
from pathlib import Path

from bundle import layout
from server.models.labels import LabelReader
from server.models.lifecycle import Fingerprint, Key

_LOGGER = logging.getLogger(__name__)


class Repository:
    """Reads a folder of models.

    `policy` is latest (the newest version that passes its checks), all, or version numbers with commas between.
    """

    def __init__(self, folder: Path, policy: str) -> None:
        self._folder = folder
        self._policy = policy
        self._labels = LabelReader(folder)
        self._missing = False

    @property
    def newest_only(self) -> bool:
        """Whether only the newest version that passes its checks is to serve."""
        return self._policy == "latest"

    @property
    def labels(self) -> dict[str, dict[str, int]]:
        """Labels of each model as last read, with their versions."""
        return self._labels.labels

    def exists(self) -> bool:
        """Whether the folder is there; logs once when it is not."""
        missing = not self._folder.is_dir()
        if missing and not self._missing:
            _LOGGER.error("%s is not a directory: nothing new can be loaded; loaded models keep serving", self._folder)
        self._missing = missing
        return not missing

    def names(self) -> list[str]:
        """Models, in alphabetical order."""
        return layout.model_names(self._folder)

    def versions(self, name: str) -> list[int]:
        """Versions of a model, ascending."""
        return layout.versions(self._folder, name)

    def candidates(self, versions: list[int]) -> list[int]:
        """Those of a model's versions that the policy admits, the newest first."""
        if self._policy in {"latest", "all"}:
            return sorted(versions, reverse=True)
        return sorted({int(number) for number in self._policy.split(",")} & set(versions), reverse=True)

    def folder(self, key: Key) -> Path:
        """Folder of one version."""
        return layout.version_folder(self._folder, *key)

    def fingerprint(self, key: Key) -> Fingerprint:
        """Fingerprint of one version's files."""
        return fingerprint_of(self.folder(key))

    def read_labels(self, name: str, loaded: Container[int]) -> None:
        """Read a model's labels again; those of versions that are not loaded do not count."""
        self._labels.read(name, loaded)

    def shorten(self, text: str) -> str:
        """The same text with paths relative to the repository, for clients."""
        return text.replace(f"{self._folder}/", "")


def fingerprint_of(folder: Path) -> Fingerprint:
    """Names, sizes and times of the files in a folder, to notice changes; a file that cannot be read is one too."""
    found: set[tuple[str, int, int]] = set()
    try:
        for path in folder.rglob("*"):
            found.add((str(path.relative_to(folder)), *_stamp(path)))
    except OSError:
        found.add(("", -1, -1))
    return frozenset(found)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        # Deleted meanwhile, or a dangling link.
        return -1, -1
    return status.st_size, status.st_mtime_ns
