"""A run's folder: `latest` to resume from, `best` to export, the log; and what resuming must find unchanged."""

import io
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training import checkpoint
from training.config import Config, differences, parse
from training.data.dataset import Dataset
from training.errors import CheckpointError, TrainingError
from training.figures import report
from training.run import provenance

CONTENT = ("best", "latest", "best.previous", "latest.previous", ".best.new", ".latest.new", "metrics.jsonl")


class Workspace:
    """The folder of one run of one configuration on one data set."""

    def __init__(self, folder: Path, config: Config, dataset: Dataset) -> None:
        self.folder, self.config, self.dataset = folder, config, dataset
        # Asked for now: the source tree may move on while this process runs what it loaded.
        provenance.git_revision()

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Makes the folder and tries whether it can be written.

        Raises:
            CheckpointError: a run is there already, and neither resuming nor overwriting was asked for.
            TrainingError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if overwrite:
                self._clear()
            elif not resume and any((self.folder / name).exists() for name in CONTENT):
                hint = "--resume goes on with it, --overwrite replaces it, another --out leaves it"
                raise CheckpointError(f"{self.folder} holds a run already: {hint}")
            checkpoint.recover(self.folder / "latest")
            checkpoint.recover(self.folder / "best")
            probe = self.folder / ".writable"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise TrainingError(f"cannot write the run's folder {self.folder}: {error}") from error

    def restore(self, device: torch.device) -> dict[str, Any] | None:
        """The state that was saved last, or None where nothing was saved yet.

        Raises:
            CheckpointError: the state is damaged, or belongs to another configuration or other data.
        """
        folder = self.folder / "latest"
        if not folder.exists():
            return None
        self._refuse_another(checkpoint.read_meta(folder), folder)
        try:
            return torch.load(folder / checkpoint.STATE, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{folder / checkpoint.STATE} is damaged: {error}; train anew") from error

    def save(
        self,
        name: str,
        weights: Mapping[str, torch.Tensor],
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the checkpoint `name`, whole or not at all.

        Raises:
            TrainingError: nothing could be written; the checkpoint before is kept.
        """
        meta = provenance.describe(self.config, self.dataset, step, epoch, metrics)
        contents = checkpoint.files(weights, meta, provenance.reference(self.dataset), None)
        if state is not None:
            contents[checkpoint.STATE] = _bytes(state)
        try:
            checkpoint.write(self.folder / name, contents)
        except OSError as error:
            raise TrainingError(f"cannot write {self.folder / name}: {error}; the one before it is kept") from error

    def _refuse_another(self, meta: Mapping[str, Any], folder: Path) -> None:
        ours = parse(provenance.settings(self.config))
        changes = differences(*map(provenance.deciding, (ours, parse(meta["config"]))))
        if meta["data"]["sha256"] != self.dataset.sha256:
            changes.append(
                f"data: {meta['data']['name']} {meta['data']['sha256'][:12]}, not "
                f"{self.dataset.name} {self.dataset.sha256[:12]}"
            )
        if changes:
            raise CheckpointError(f"{folder} is of another run; it was trained with " + "; ".join(changes))

    def _clear(self) -> None:
        # Pictures too: the report shows those that it finds.
        found = [*report.PICTURES, *(path.stem for path in self.folder.glob("attribute-*.png"))]
        for name in [*CONTENT, "report.md", *(f"{picture}.png" for picture in found)]:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _bytes(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()
