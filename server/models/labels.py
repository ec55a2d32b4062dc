"""Version labels such as stable and canary, read from <repository>/<name>/labels.json: {"stable": 1, "canary": 2}."""

import json
import logging
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bundle import layout
from bundle.errors import BundleError
from bundle.files import FileIdentity, identity
from server.models.lifecycle import brief

_LOGGER = logging.getLogger(__name__)
LABELS_FILE = "labels.json"
_MAX_BYTES = 64 * 1024
_MAX_PROBLEMS = 10
_LABEL = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class _LabelFile:
    """A file as last read."""

    labels: dict[str, int]
    identity: FileIdentity | None
    problems: list[str]


class LabelReader:
    """Reads the labels of a repository's models; problems with a file are logged once, until it or they change."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._files: dict[str, _LabelFile] = {}

    @property
    def labels(self) -> dict[str, dict[str, int]]:
        """Labels of each model as last read, with their versions."""
        return {name: file.labels for name, file in self._files.items()}

    def read(self, name: str, loaded: Container[int]) -> dict[str, int]:
        """Labels of a model that point at loaded versions; one that points elsewhere stays where it was."""
        path = self._repository / name / LABELS_FILE
        before = self._files.pop(name, None)
        found = identity(path)
        labels, problems = _labels(path, loaded, {} if before is None else before.labels)
        if problems and (before is None or (found, problems) != (before.identity, before.problems)):
            for problem in problems[:_MAX_PROBLEMS]:
                _LOGGER.error("%s: %s", path, brief(problem))
            if len(problems) > _MAX_PROBLEMS:
                _LOGGER.error("%s: and %d more", path, len(problems) - _MAX_PROBLEMS)
        if labels or problems:
            self._files[name] = _LabelFile(labels, found, problems)
        return labels


def _labels(path: Path, loaded: Container[int], before: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Labels, and the problems with the file."""
    try:
        expected = _checked(json.loads(layout.read_file(path, _MAX_BYTES))) if path.exists() else {}
    # Python's JSON parser raises RecursionError for brackets nested too deep.
    except (BundleError, OSError, ValueError, RecursionError) as error:
        stay = {label: version for label, version in before.items() if version in loaded}
        return stay, [f'expected JSON such as {{"stable": 1}}: {error}']
    labels: dict[str, int] = {}
    problems: list[str] = []
    for label, version in expected.items():
        if version in loaded:
            labels[label] = version
            continue
        stays = before.get(label)
        if stays is not None and stays in loaded:
            labels[label] = stays
        advice = "serve it too, as --versions all does, or drop the label"
        problems.append(f"label {label} points at version {version}, which is not loaded: {advice}")
    return labels, problems


def _checked(content: Any) -> dict[str, int]:  # noqa: ANN401 (parsed JSON)
    if not isinstance(content, dict):
        raise ValueError(f"got {content!r:.60}")  # noqa: TRY004 (bad data, not a bug)
    labels = cast("dict[str, Any]", content)
    for label, version in labels.items():
        if not _LABEL.fullmatch(label) or type(version) is not int or version < 1:
            raise ValueError(f"got {label!r}: {version!r}")
    return labels
