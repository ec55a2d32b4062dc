"""metrics.jsonl: a line per epoch, and TensorBoard's files where they are expected."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.errors import ConfigError, TrainingError


class Journal:
    """The log of a run, one JSON object a line."""

    def __init__(self, workdir: Path, *, tensorboard: bool = False) -> None:
        self.path = workdir / "metrics.jsonl"
        self.tensorboard = tensorboard
        self.board: Any = None

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Begins anew with these records: those of a checkpoint, without what was logged after it."""
        records = list(records)
        self._write("w", records)
        if self.tensorboard:
            self.board = _board(self.path.parent / "tensorboard", len(records) + 1)

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds a line."""
        self._write("a", [record])
        if self.board:
            for name, value in _flat(record).items():
                self.board.add_scalar(name, value, record["epoch"])
            self.board.flush()

    def _write(self, mode: str, records: Iterable[Mapping[str, Any]]) -> None:
        try:
            with self.path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        except OSError as error:
            raise TrainingError(f"cannot write {self.path}: {error}") from error


def _board(folder: Path, first_epoch: int) -> Any:  # noqa: ANN401  an optional package's type
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  an optional package
    except ImportError:
        raise ConfigError(
            "output.tensorboard wants the tensorboard package: pip install 'hourglass[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder), purge_step=first_epoch)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        flat.update({f"{name}/{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value})
    return flat
