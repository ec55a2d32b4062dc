"""What a finished run took and reached: kept in docs/results/ with its pictures, to write the page from."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from training import checkpoint

RECORD = "record.json"
# Beside the records: the laps of `training.reproduction.clock`.
_OTHERS = ("clock",)


@dataclass(frozen=True)
class Cost:
    """Of a process from its start to its end: training, measures and pictures."""

    wall_seconds: float
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    resumed: bool = False
    """Whether the run had begun before, in a process that is not counted."""


@dataclass(frozen=True)
class Record:
    """What a reader needs to do a run again, what it took, and what it reached."""

    recipe: str
    command: str
    seed: int
    epoch: int
    cost: Cost
    date: str
    machine: str
    revision: str
    metrics: Mapping[str, float]
    attributes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The scores of each direction in the latent space, where such were fitted."""
    remark: str = ""
    """What has changed since, until the run is done again."""


def write(out: Path, command: str, cost: Cost) -> None:
    """Record a finished run next to its checkpoint."""
    meta = checkpoint.read_meta(out / "best")
    record = Record(
        recipe=meta["name"],
        command=command,
        seed=meta["config"]["run"]["seed"],
        epoch=meta["epoch"],
        cost=cost,
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
        revision=meta["git_revision"][:12],
        metrics=meta["metrics"],
    )
    _write(out / RECORD, record)


def machine() -> str:
    """The processor and how many of its cores there are; no name of a host."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names) or '?'} x {names[0] if names else platform.machine()}"


def collect(runs: Path, kept: Path) -> dict[str, Record]:
    """Copies the records of `runs` to `kept`, with what was measured on them since; all that are there."""
    for path in sorted(runs.glob(f"*/{RECORD}")):
        meta = checkpoint.read_meta(path.parent / "best")
        found = replace(read(path), metrics=meta["metrics"], attributes=meta.get("attributes", {}))
        _write(kept / f"{path.parent.name}.json", found)
    return known(kept)


def known(kept: Path) -> dict[str, Record]:
    """The records that are kept in a folder, by their names there."""
    return {path.stem: read(path) for path in sorted(kept.glob("*.json")) if path.stem not in _OTHERS}


def _write(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Record:
    """The record in a file."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Record(cost=Cost(**values.pop("cost")), **values)
