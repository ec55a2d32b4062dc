"""Small models of every kind that the page shows, some with reference points, as training writes them."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Likelihood, Signature

from bundle import layout
from bundle.density.latent_arrays import MAX_COMPONENTS
from bundle.golden import Case
from bundle.latents import REFERENCE_COMPONENTS, LatentStatistics
from tests.bundle.test_latents import fitted
from tests.server.conftest import copy_version
from tests.server.free_models import (
    Chain,
    graph,
    run,
    spec,
    write_autoencoder,
    write_bundle,
    write_denoiser,
    write_detector,
)
from tests.server.score_models import write_scorer

POINTS = 300
SIDE = 8
NAMES = ("left", "middle", "right")


def write_models(repository: Path) -> None:
    """Models of every kind that the page shows: fc-ae has no reference points."""
    for name in ("denoiser", "fc-ae", "multitask", "vae"):
        folder = copy_version(repository, name, 1)
        if name in {"multitask", "vae"}:
            add_points(folder)
    copy_version(repository, "fc-ae", 2)
    write_detector(repository, size=8)
    write_detector(repository, "free-detector")
    write_denoiser(repository, "free-denoiser", levels=True)
    write_autoencoder(repository)
    write_scorer(repository, learned=True, likelihood=Likelihood(distribution="bernoulli", binarised=True))
    for name, size in (("line", 1), ("plane", 2), ("wide", 70)):
        write_linear(repository, name, size)


def write_linear(repository: Path, name: str, size: int, attributes: Sequence[str] = ()) -> Path:
    """A linear encoder and decoder of 8 x 8 pixels with codes of `size` numbers, and their statistics with points."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.2, (SIDE * SIDE, size)).astype(np.float32)
    images, codes = spec("images", SIDE, SIDE, 1), spec("latents", size)
    encoder = Chain().then("Reshape", np.array([0, SIDE * SIDE])).then("MatMul", weights, output="latents")
    decoder = Chain().then("MatMul", weights.T.copy()).then("Sigmoid")
    decoder.nodes[0].input[0] = "latents"
    decoder.then("Reshape", np.array([0, SIDE, SIDE, 1]), output="images")
    given = {"images": rng.random((3, SIDE, SIDE, 1), np.float32), "latents": np.ones((3, size), np.float32)}
    parts, cases = {}, {}
    for method, chain, source, target in (("encode", encoder, images, codes), ("decode", decoder, codes, images)):
        data = graph(chain, [source], [target])
        about = Signature(
            name=method, file=f"{method}.onnx", inputs=[source], outputs=[target], batch_buckets=(1, 2, 4)
        )
        parts[method] = about, data
        inputs = {source.name: given[source.name]}
        cases[method] = (Case(inputs, {target.name: run(data, inputs)[0]}),)
    methods = ["Encode", "Decode", "Sample", "Interpolate", *(["Edit"] if attributes else [])]
    model = model_pb2.Model(methods=methods, family="vae", height=SIDE, width=SIDE, channels=1, latent_size=size)
    model.latent_shape.append(size)
    model.attributes.extend(attributes)
    write_bundle(repository, name, model, parts, cases)
    folder = repository / name / "1"
    statistics = dataclasses.replace(fitted(size, 0, len(attributes))[0], attribute_names=np.array(attributes, np.str_))
    (folder / layout.LATENTS_FILE).write_bytes(statistics.to_bytes())
    add_points(folder)
    return folder


def add_points(folder: Path, count: int = POINTS, names: Sequence[str] = NAMES) -> None:
    """Reference points of some classes, spread along the first number of the latent."""
    path = folder / layout.LATENTS_FILE
    statistics = LatentStatistics.from_bytes(path.read_bytes())
    drawn = np.random.default_rng(0).standard_normal((count, statistics.latent_size))
    deviations = np.sqrt(statistics.variances)
    points = drawn[:, : len(deviations)] * deviations
    if statistics.latent_size <= MAX_COMPONENTS:
        points = statistics.mean + points @ statistics.components
    else:
        points = points[:, :REFERENCE_COMPONENTS]
    order = np.argsort(points[:, 0])
    labels = np.empty(count, np.int16)
    labels[order] = np.arange(count) * len(names) // count
    made = dataclasses.replace(
        statistics,
        reference_points=points.astype(np.float16),
        reference_labels=labels,
        reference_label_names=np.array(names),
    )
    path.write_bytes(made.to_bytes())
    description = json.loads((folder / layout.MODEL_FILE).read_text())
    listed = {each["path"] for each in description["files"]} | {layout.LATENTS_FILE}
    files = {path: (folder / path).read_bytes() for path in sorted(listed)}
    model = layout.read_model(folder)
    del model.files[:]
    model.files.extend(layout.describe_files(files))
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
