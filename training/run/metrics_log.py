"""The metrics log: metrics.jsonl with a line per epoch, and TensorBoard files where they are asked for."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.errors import ConfigError, TrainingError


class MetricsLog:
    """The metrics of a run, one JSON object a line."""

    def __init__(self, workdir: Path, *, tensorboard: bool = False) -> None:
        self._path = workdir / "metrics.jsonl"
        self._tensorboard = tensorboard
        self._board: Any = None

    def restart(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the log by these records, those of a checkpoint: what was logged after it is dropped."""
        records = list(records)
        self._write("w", records)
        if self._tensorboard:
            self._board = _summary_writer(self._path.parent / "tensorboard", len(records) + 1)

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a line."""
        self._write("a", [record])
        if self._board:
            for name, value in _flat(record).items():
                self._board.add_scalar(name, value, record["epoch"])
            self._board.flush()

    def _write(self, mode: str, records: Iterable[Mapping[str, Any]]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        except OSError as error:
            raise TrainingError(f"cannot write {self._path}: {error}") from error


def _summary_writer(folder: Path, first_epoch: int) -> Any:  # noqa: ANN401 (the type of an optional package)
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an optional package)
    except ImportError:
        raise ConfigError(
            "output.tensorboard needs the tensorboard package: pip install '.[tensorboard]' in a checkout"
        ) from None
    return SummaryWriter(str(folder), purge_step=first_epoch)


def _flat(record: Mapping[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in record.items():
        flat.update({f"{name}/{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value})
    return flat
