"""Labels such as stable and canary: <repository>/<name>/labels.json, {"stable": 1, "canary": 2}."""

import json
import logging
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

_LOGGER = logging.getLogger(__name__)
LABELS_FILE = "labels.json"
_PATTERN = re.compile(r"[a-z][a-z0-9-]*")


def read_labels(folder: Path, loaded: Container[int], before: dict[str, int]) -> dict[str, int]:
    """Labels of a model that point at loaded versions; one that would not stays where it was."""
    wanted = _parse(folder / LABELS_FILE)
    if wanted is None:
        return {label: version for label, version in before.items() if version in loaded}
    labels: dict[str, int] = {}
    for label, version in wanted.items():
        if version in loaded:
            labels[label] = version
            continue
        stays = before.get(label)
        if stays is not None and stays in loaded:
            labels[label] = stays
        _LOGGER.error("%s: label %s wants version %d, which is not loaded", folder / LABELS_FILE, label, version)
    return labels


def _parse(path: Path) -> dict[str, int] | None:
    """Content of the file; empty without a file, nothing where it cannot be read."""
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _LOGGER.error('%s: wanted JSON such as {"stable": 1}: %s', path, error)  # noqa: TRY400 (the text says it all)
        return None
    if not isinstance(content, dict):
        _LOGGER.error('%s: wanted an object such as {"stable": 1}', path)
        return None
    labels: dict[Any, Any] = content
    if not all(isinstance(k, str) and _PATTERN.fullmatch(k) and type(v) is int for k, v in labels.items()):
        _LOGGER.error("%s: wanted names such as stable with version numbers, got %s", path, labels)
        return None
    return labels
