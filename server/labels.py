"""Labels such as stable and canary: <repository>/<name>/labels.json, {"stable": 1, "canary": 2}."""

import logging
from collections.abc import Container
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

_LOGGER = logging.getLogger(__name__)
LABELS_FILE = "labels.json"
_LABELS = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], PositiveInt])


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
    """Content of the file; empty without a file, nothing where it cannot be used."""
    try:
        return _LABELS.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        _LOGGER.error('%s: wanted JSON such as {"stable": 1}: %s', path, error)  # noqa: TRY400 (the text says it all)
        return None
