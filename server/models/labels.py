"""Labels such as stable and canary: <repository>/<name>/labels.json, {"stable": 1, "canary": 2}."""

import json
import logging
import re
from collections.abc import Container
from pathlib import Path
from typing import Any, cast

from bundle import layout
from bundle.errors import BundleError
from server.file_watch import stamp_of

_LOGGER = logging.getLogger(__name__)
LABELS_FILE = "labels.json"
_MAX_BYTES = 64 * 1024
_LABEL = re.compile(r"[a-z][a-z0-9-]*")


class LabelReader:
    """Reads the labels of models again and again; what is wrong with a file is logged once, until it changes."""

    def __init__(self) -> None:
        self._told: dict[Path, tuple[object, list[str]]] = {}

    def read(self, folder: Path, loaded: Container[int], before: dict[str, int]) -> dict[str, int]:
        """Labels of a model that point at loaded versions; one that would not stays where it was."""
        path = folder / LABELS_FILE
        stamp = stamp_of(path)
        labels, wrong = _labels(path, loaded, before)
        if wrong and self._told.get(path) != (stamp, wrong):
            for sentence in wrong:
                _LOGGER.error("%s: %s", path, sentence)
        self._told.pop(path, None)
        if wrong:
            self._told[path] = (stamp, wrong)
        return labels


def _labels(path: Path, loaded: Container[int], before: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Labels, and what is wrong with the file."""
    try:
        expected = _checked(json.loads(layout.read_file(path, _MAX_BYTES))) if path.exists() else {}
    # What Python's JSON makes of brackets without end is a RecursionError.
    except (BundleError, OSError, ValueError, RecursionError) as error:
        stay = {label: version for label, version in before.items() if version in loaded}
        return stay, [f'expected JSON such as {{"stable": 1}}: {error}']
    labels: dict[str, int] = {}
    wrong: list[str] = []
    for label, version in expected.items():
        if version in loaded:
            labels[label] = version
            continue
        stays = before.get(label)
        if stays is not None and stays in loaded:
            labels[label] = stays
        advice = "serve it too, as --versions all does, or drop the label"
        wrong.append(f"label {label} wants version {version}, which is not loaded: {advice}")
    return labels, wrong


def _checked(content: Any) -> dict[str, int]:  # noqa: ANN401 (whatever the file holds)
    if not isinstance(content, dict):
        raise ValueError(f"got {content!r:.60}")  # noqa: TRY004 (no programmer's mistake)
    labels = cast("dict[str, Any]", content)
    for label, version in labels.items():
        if not _LABEL.fullmatch(label) or type(version) is not int or version < 1:
            raise ValueError(f"got {label!r}: {version!r}")
    return labels
