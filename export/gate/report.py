"""Report of the gate: report.json for programs, a table for people."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from autoencoder.v1.model_pb2 import Model

from export.gate.gate import GateResult
from export.gate.parity import Measured
from export.text_table import aligned

_SHOWN_BUCKETS = (1, 8, 64)
_KIB = 1024


def encode(model: Model, result: GateResult, seconds: float) -> bytes:
    """Make report.json: measurements, time and machine; not hashed and never served."""
    content = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        # Of this process and those that it started: the better measure on a busy machine.
        "cpu_seconds": round(sum(os.times()[:4]), 1),
        "machine": {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
        "provenance": dict(sorted(model.provenance.items())),
        "passed": list(result.passed),
        "payoff": None if result.tradeoff is None else asdict(result.tradeoff),
        "quality": None if result.quality is None else asdict(result.quality),
        "graphs": {name: _graph(measured, result.latencies_ms[name]) for name, measured in result.measured.items()},
        "tiles": {name: tiled.seen for name, tiled in result.tiled.items()},
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def table(model: Model, result: GateResult) -> str:
    """One row a graph, and the checks below."""
    sizes = {file.path: file.size_bytes for file in model.files}
    shown = [bucket for bucket in _SHOWN_BUCKETS if all(bucket in each for each in result.latencies_ms.values())]
    header = ("graph", "KiB", "max error", "worst on", "row alone", f"ms at {'/'.join(map(str, shown))} rows")
    rows = [
        _row(name, measured, sizes[f"{name}.onnx"], [result.latencies_ms[name][bucket] for bucket in shown])
        for name, measured in result.measured.items()
    ]
    tiles = [f"{name}: {tiled.seen}" for name, tiled in result.tiled.items()]
    return "\n".join([*aligned([header, *rows]), *tiles, *_tradeoff(result), f"passed: {', '.join(result.passed)}"])


def _tradeoff(result: GateResult) -> Iterator[str]:
    """What a variant loses and gains, in a line."""
    if (tradeoff := result.tradeoff) is not None:
        ranking = tradeoff.rank_correlation
        parts = [
            f"{tradeoff.speed_up:.2f} times as fast",
            f"PSNR lower by {tradeoff.psnr_drop_db:.4f} dB",
            *([] if ranking is None else [f"ranking of errors correlates by {ranking:.5f}"]),
            *([] if tradeoff.class_agreement is None else [f"classes agree on {tradeoff.class_agreement:.2%}"]),
        ]
        yield f"against float32: {', '.join(parts)}"


def _row(name: str, measured: Measured, size_bytes: int, latencies: Sequence[float]) -> tuple[str, ...]:
    worst = max(measured.worst, key=lambda each: each.max_abs_error)
    alone = "same bits" if measured.alone_difference == 0 else f"{measured.alone_difference:.1e}"
    return (
        name,
        f"{size_bytes / _KIB:.0f}",
        f"{measured.max_abs_error:.1e}",
        f"{worst.kind}, batch {worst.batch}",
        alone,
        " / ".join(f"{each:.2f}" for each in latencies),
    )


def _graph(measured: Measured, latencies_ms: Mapping[int, float]) -> dict[str, Any]:
    return {
        "max_abs_error": measured.max_abs_error,
        "row_alone_difference": measured.alone_difference,
        "batches": list(measured.batches),
        "trials": [asdict(worst) for worst in measured.worst],
        "batch_buckets": [
            {"rows": rows, "best_ms": round(value, 4), "rows_per_second": round(rows / value * 1e3)}
            for rows, value in latencies_ms.items()
        ],
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123 (no file of ours)
            found = (line.partition(":")[2].strip() for line in stream if line.startswith("model name"))
            return next(found, platform.processor())
    except OSError:
        return platform.processor()
