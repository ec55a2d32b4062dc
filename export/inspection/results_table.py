"""Results table: every model of a repository in Markdown, from its reports; part of the published results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoencoder.v1.model_pb2 import Model

from bundle import layout
from bundle.errors import BundleError
from bundle.layout import REPORT_FILE
from export.errors import InputError
from export.text_table import markdown

_HEADER = (
    "model",
    "data",
    "graph",
    "KiB",
    "largest distance from float64",
    "a row alone and in a batch",
    "ms for 1 / 8 / 64 rows",
    "export, s (CPU s)",
)
_SHOWN_ROWS = (1, 8, 64)
_KIB = 1024
_MAX_REPORT_BYTES = 4 * 1024**2


def results(repository: Path) -> str:
    """Markdown: one row a graph of the newest version of each model.

    Raises:
        InputError: there are no models, or a version has no report.
    """
    names = [name for name in layout.model_names(repository) if layout.versions(repository, name)]
    if not names:
        raise InputError(f"{repository}: expected a repository with models, got none: export some")
    rows = [row for name in names for row in _rows(repository, name)]
    return "\n".join(markdown(_HEADER, rows))


def _rows(repository: Path, name: str) -> Iterator[tuple[str, ...]]:
    folder = layout.version_folder(repository, name, layout.versions(repository, name)[-1])
    try:
        model = layout.read_model(folder)
        report: dict[str, Any] = json.loads(layout.read_file(folder / REPORT_FILE, _MAX_REPORT_BYTES))
    except (ValueError, RecursionError, BundleError) as error:
        raise InputError(f"{folder}: expected a version with its report: {error}") from error
    try:
        # Made while the error can be caught.
        yield from list(_graph_rows(model, report))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{folder / REPORT_FILE}: expected what export writes: {error!r:.200}") from error


def _graph_rows(model: Model, report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    sizes = {file.path: file.size_bytes for file in model.files}
    for index, signature in enumerate(model.signatures):
        graph = report["graphs"][signature.name]
        yield (
            *(_about(model) if index == 0 else ("", "")),
            signature.name,
            f"{sizes[signature.file] / _KIB:.0f}",
            f"{graph['max_abs_error']:.1e}",
            "the same bits" if signature.batch_invariant else f"{graph['row_alone_difference']:.1e} apart",
            _latencies(graph),
            f"{report['seconds']:.0f} ({report['cpu_seconds']:.0f})" if index == 0 else "",
        )


def _about(model: Model) -> tuple[str, str]:
    known = dict(model.provenance)
    precision = known.get("precision", "float32")
    name = model.name if precision == "float32" else f"{model.name} ({precision})"
    return name, known.get("data", "")


def _latencies(graph: dict[str, Any]) -> str:
    by_rows = {bucket["rows"]: bucket["best_ms"] for bucket in graph["batch_buckets"]}
    return " / ".join(f"{by_rows[rows]:.2f}" for rows in _SHOWN_ROWS if rows in by_rows)
