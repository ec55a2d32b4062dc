"""metrics.jsonl: a line per epoch."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class Journal:
    """The log of a run, one JSON object a line."""

    def __init__(self, workdir: Path) -> None:
        self.path = workdir / "metrics.jsonl"

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Begins anew with these records: those of a checkpoint, without what was logged after it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
