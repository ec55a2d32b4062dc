"""The run directory: `latest` to resume from, `best` to export, the log; resuming checks config and data."""

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from training import checkpoint
from training.config import Config
from training.data.dataset import Dataset
from training.errors import CheckpointError, TrainingError, one_line
from training.figures import report
from training.recipe import differences, parse_config
from training.run import provenance

_CHECKPOINTS = ("best", "latest", "best.previous", "latest.previous", ".best.new", ".latest.new")
_CONTENT = (*_CHECKPOINTS, "metrics.jsonl", ".evaluating")


class RunDirectory:
    """The directory of one run of one configuration on one data set."""

    def __init__(self, folder: Path, config: Config, dataset: Dataset) -> None:
        self._folder, self._config, self._dataset = folder, config, dataset
        # Read (and cached) now: the source tree may change while this process runs the code that it loaded.
        provenance.git_revision()

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Create the directory and test that it is writable.

        Raises:
            CheckpointError: a run exists already, and neither `resume` nor `overwrite` was given.
            TrainingError: the directory cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._clear()
            elif not resume and any((self._folder / name).exists() for name in _CONTENT):
                hint = "--resume goes on with it, --overwrite replaces it, another --out leaves it"
                raise CheckpointError(f"{self._folder} holds a run already: {hint}")
            checkpoint.recover(self._folder / "latest")
            checkpoint.recover(self._folder / "best")
            probe = self._folder / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise TrainingError(f"cannot write the run's folder {self._folder}: {error}") from error

    def restore(self, device: torch.device) -> dict[str, Any] | None:
        """The state that was saved last, or None if nothing was saved yet.

        Raises:
            CheckpointError: the state is damaged, or belongs to another configuration or other data.
        """
        folder = self._folder / "latest"
        if not folder.exists():
            return None
        self._refuse_another(provenance.origin(checkpoint.read_meta(folder), folder), folder)
        try:
            saved: object = torch.load(folder / checkpoint.STATE, map_location=device, weights_only=True)
        # A damaged pickle can make its reader raise anything.
        except Exception as error:
            raise CheckpointError(f"{folder / checkpoint.STATE} is damaged: {one_line(error)}; train again") from error
        # None would look like a run that has saved nothing yet.
        if not isinstance(saved, dict):
            kind = type(saved).__name__
            raise CheckpointError(f"{folder / checkpoint.STATE} is damaged: expected a dict, got {kind}; train again")
        return cast("dict[str, Any]", saved)

    def save(
        self,
        name: str,
        weights: Mapping[str, torch.Tensor],
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the checkpoint `name`, atomically.

        Raises:
            TrainingError: nothing could be written; the previous checkpoint is kept.
        """
        meta = provenance.describe(self._config, self._dataset, step, epoch, metrics)
        contents = checkpoint.files(weights, meta, provenance.reference(self._dataset), None)
        if state is not None:
            contents[checkpoint.STATE] = _bytes(state)
        try:
            checkpoint.write(self._folder / name, contents)
        except OSError as error:
            raise TrainingError(f"cannot write {self._folder / name}: {error}; the one before it is kept") from error

    def _refuse_another(self, found: provenance.Origin, folder: Path) -> None:
        ours = parse_config(provenance.settings(self._config))
        changes = differences(*map(provenance.deciding, (ours, found.config)))
        if not checkpoint.is_data_of(self._dataset, found.sha256):
            data = f"{self._dataset.name} {self._dataset.sha256[:12]}"
            changes.append(f"data: {found.data} {found.sha256[:12]}, not {data}")
        if changes:
            raise CheckpointError(f"{folder} is of another run; it was trained with " + "; ".join(changes))

    def _clear(self) -> None:
        # Pictures too: the report shows every picture that it finds.
        found = [*report.PICTURES, *(path.stem for path in self._folder.glob("attribute-*.png"))]
        for name in [*_CONTENT, "report.md", *(f"{picture}.png" for picture in found)]:
            path = self._folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _bytes(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()
