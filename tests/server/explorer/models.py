"""Golden models with reference points, as training writes them, and a detector."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from bundle import layout
from bundle.latents import LatentStatistics
from tests.server.conftest import copy_version
from tests.server.free_models import write_detector

POINTS = 300
NAMES = ("left", "middle", "right")


def write_models(repository: Path) -> None:
    """Models of every kind that the page shows: fc-ae has no reference points."""
    for name in ("denoiser", "fc-ae", "multitask", "vae"):
        folder = copy_version(repository, name, 1)
        if name in {"multitask", "vae"}:
            add_points(folder)
    copy_version(repository, "fc-ae", 2)
    write_detector(repository, size=8)


def add_points(folder: Path, count: int = POINTS) -> None:
    """Reference points of three classes, spread along the first number of the latent."""
    path = folder / layout.LATENTS_FILE
    statistics = LatentStatistics.from_bytes(path.read_bytes())
    drawn = np.random.default_rng(0).standard_normal((count, statistics.latent_size))
    points = statistics.mean + (drawn * np.sqrt(statistics.variances)) @ statistics.components
    order = np.argsort(points[:, 0])
    labels = np.empty(count, np.int16)
    labels[order] = np.arange(count) * len(NAMES) // count
    made = dataclasses.replace(
        statistics,
        reference_points=points.astype(np.float16),
        reference_labels=labels,
        reference_label_names=np.array(NAMES),
    )
    path.write_bytes(made.to_bytes())
    description = json.loads((folder / layout.MODEL_FILE).read_text())
    files = {each["path"]: (folder / each["path"]).read_bytes() for each in description["files"]}
    model = layout.read_model(folder)
    del model.files[:]
    model.files.extend(layout.describe_files(files))
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
