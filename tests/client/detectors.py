"""Bundles of small detectors: what is not grey is strange."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from autoencoder.v1.model_pb2 import Detection, Model, Signature, Tiling
from onnx import helper

from tests.server.free_models import FREE, GOLDEN_SIZES, Chain, _case, graph, spec, write_bundle

DETECTION = Detection(
    score="max",
    rates=[0.01, 0.1],
    thresholds=[0.1, 0.05],
    map_thresholds=[0.08, 0.04],
    default_rate=0.01,
    map_low=0.01,
    calibrated_on=500,
    rate_lower=[0.001, 0.06],
    rate_upper=[0.04, 0.15],
    calibrated_height=80,
    calibrated_width=80,
)
TILING = Tiling(halo=1, multiple=1, tile=32, exact=True)


def detector(score: str) -> Chain:
    """Squared distance from grey, averaged over 3 x 3 pixels; and the score of an image of one size."""
    chain = Chain().then("Transpose", perm=[0, 3, 1, 2]).then("Sub", np.float32([0.5]), output="distance")
    chain.then("Mul", "distance").then("Conv", np.full((1, 1, 3, 3), 1 / 9, np.float32), pads=[1, 1, 1, 1])
    if score:
        reduce = {"max": "ReduceMax", "mean": "ReduceMean"}[score]
        axes = chain._stored(np.array([1, 2, 3]))
        chain.nodes.append(helper.make_node(reduce, [chain._value, axes], ["scores"], keepdims=0))
    return chain.then("Transpose", perm=[0, 2, 3, 1], output="maps")


def write_detector(
    repository: Path,
    name: str = "detector",
    *,
    size: int = 0,
    score: str = "max",
    detection: Detection = DETECTION,
    buckets: Sequence[int] = (1, 2, 4),
) -> bytes:
    """A detector of images of any size, or `size` x `size`; returns its graph."""
    axes = (size or FREE, size or FREE, 1)
    outputs = [*([spec("scores")] if size else []), spec("maps", *axes)]
    data = graph(detector(score if size else ""), [spec("images", *axes)], outputs)
    signature = Signature(name="detect", file="detect.onnx", inputs=[spec("images", *axes)], outputs=outputs)
    signature.batch_buckets.extend(buckets)
    signature.batch_invariant = True
    if not size:
        signature.tiling.CopyFrom(TILING)
    model = Model(methods=["Detect"], family="module", height=size, width=size, channels=1)
    model.detection.CopyFrom(detection)
    model.detection.score = score
    cases = tuple(_case(data, signature, sides) for sides in ([(size, size)] if size else GOLDEN_SIZES))
    write_bundle(repository, name, model, {"detect": (signature, data)}, {"detect": cases})
    return data
