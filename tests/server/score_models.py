"""Small VAEs that score, with a learned prior or without one, whose answers NumPy can compute."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, Likelihood, Model, Signature, TensorSpec
from onnx import TensorProto, helper, numpy_helper

from bundle import layout
from bundle.golden import ROWS, SEED, Case, Golden, SampleCase
from bundle.latents import LatentStatistics, standard
from tests.server.free_models import run

SIDE, SIZE = 4, 3
BUCKETS = (1, 2, 4, 8)
_RNG = np.random.default_rng(0)
PIXELS = _RNG.normal(0, 1, (1, SIDE, SIDE, 1)).astype(np.float32)
NOISE = _RNG.normal(0, 1, (1, SIZE)).astype(np.float32)
CODES = _RNG.normal(0, 1, (SIDE * SIDE, SIZE)).astype(np.float32)
SCALE, SHIFT = 2.0, 1.0
"""Of the prior: latents are SCALE * noise + SHIFT."""
QUANTILE_LEVELS = np.array([0.5, 0.999])
ENERGIES = np.array([5.5, 6.5])
"""Quantiles of -log p(z) on held-out images, as the bundle says."""


def log_weights(images: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(N, H, W, 1) uint8 and (N, D) to (N,) float64."""
    return (images / 255 * PIXELS.astype(np.float64)).sum((1, 2, 3)) + (noise * NOISE.astype(np.float64)).sum(1)


def log_density(latents: np.ndarray) -> np.ndarray:
    """(N, D) to (N,)."""
    whitened = (latents.astype(np.float64) - SHIFT) / SCALE
    return -0.5 * np.square(whitened).sum(1) - SIZE * (math.log(SCALE) + 0.5 * math.log(2 * math.pi))


def write_scorer(
    repository: Path, name: str = "scorer", *, learned: bool = False, likelihood: Likelihood | None = None
) -> None:
    """Version 1 of a model with Encode, Decode, Sample and Score."""
    parts = {each: _part(each) for each in _names(learned=learned)}
    cases = {each: (_case(signature, data),) for each, (signature, data) in parts.items()}
    noise = standard(SEED, 0, ROWS, SIZE)
    points = run(parts["prior"][1], {"noise": noise})[0] if learned else noise
    images = run(parts["decode"][1], {"latents": points})[0]
    sample = SampleCase(SEED, ROWS, 1.0, points, images, noise if learned else None)
    files = {signature.file: data for signature, data in parts.values()}
    files[layout.GOLDEN_FILE] = Golden(cases, sample).to_bytes()
    files[layout.LATENTS_FILE] = _statistics(learned=learned).to_bytes()
    model = Model(name=name, version="1", family="vae", height=SIDE, width=SIDE, channels=1, latent_size=SIZE)
    model.methods.extend(["Encode", "Decode", "Sample", "Interpolate", "Score"])
    model.likelihood.CopyFrom(likelihood or Likelihood(distribution="gaussian", sigma=0.5))
    model.signatures.extend(signature for signature, _ in parts.values())
    model.files.extend(layout.describe_files(files))
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def _names(*, learned: bool) -> list[str]:
    return sorted(["encode", "decode", "log_weights", *(["prior", "log_density"] if learned else [])])


def _statistics(*, learned: bool) -> LatentStatistics:
    return LatentStatistics(
        mean=np.zeros(SIZE),
        components=np.eye(SIZE),
        variances=np.ones(SIZE),
        total_variance=np.asarray(float(SIZE)),
        mixture_weights=np.zeros(0),
        mixture_means=np.zeros((0, SIZE)),
        mixture_covariances=np.zeros((0, SIZE, SIZE)),
        quantile_levels=QUANTILE_LEVELS,
        reconstruction_error_quantiles=np.array([0.1, 0.2]),
        latent_distance_quantiles=np.array([1.0, 2.0]),
        negative_log_density_quantiles=ENERGIES if learned else None,
        attribute_names=np.array([], np.str_),
        attribute_directions=np.zeros((0, SIZE)),
        attribute_means=np.zeros(0),
        attribute_spreads=np.zeros(0),
    )


_SHAPES: Mapping[str, Sequence[int]] = {
    "images": (SIDE, SIDE, 1),
    "latents": (SIZE,),
    "noise": (SIZE,),
    "log_weights": (),
    "log_densities": (),
}
_TENSORS = {
    "encode": (["images"], "latents"),
    "decode": (["latents"], "images"),
    "log_weights": (["images", "noise"], "log_weights"),
    "prior": (["noise"], "latents"),
    "log_density": (["latents"], "log_densities"),
}


class _Graph:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.weights: list[object] = []

    def node(self, operator: str, *inputs: str | np.ndarray, output: str = "", **attributes: object) -> str:
        made = output or f"x{len(self.nodes)}"
        names = [each if isinstance(each, str) else self._stored(each) for each in inputs]
        self.nodes.append(helper.make_node(operator, names, [made], **attributes))
        return made

    def pixels(self) -> str:
        return self.node("Div", self.node("Cast", "images", to=TensorProto.FLOAT), np.float32(255))

    def _stored(self, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), f"w{len(self.weights)}"))
        return f"w{len(self.weights) - 1}"


def _part(name: str) -> tuple[Signature, bytes]:
    made = _Graph()
    {"encode": _encode, "decode": _decode, "log_weights": _weigh, "prior": _prior, "log_density": _dense}[name](made)
    inputs, output = _TENSORS[name]
    specs = [_spec(each, integers=name in {"encode", "log_weights"}) for each in inputs], [_spec(output)]
    graph = helper.make_graph(made.nodes, name, *([_port(each) for each in side] for side in specs), made.weights)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    signature = Signature(name=name, file=f"{name}.onnx", inputs=specs[0], outputs=specs[1], batch_buckets=BUCKETS)
    return signature, data


def _encode(made: _Graph) -> None:
    made.node("MatMul", made.node("Flatten", made.pixels()), CODES, output="latents")


def _decode(made: _Graph) -> None:
    flat = made.node("Sigmoid", made.node("MatMul", "latents", np.ascontiguousarray(CODES.T)))
    made.node("Reshape", flat, np.array([-1, SIDE, SIDE, 1]), output="images")


def _weigh(made: _Graph) -> None:
    seen = made.node("ReduceSum", made.node("Mul", made.pixels(), PIXELS), np.array([1, 2, 3]), keepdims=0)
    drawn = made.node("ReduceSum", made.node("Mul", "noise", NOISE), np.array([1]), keepdims=0)
    made.node("Add", seen, drawn, output="log_weights")


def _prior(made: _Graph) -> None:
    made.node("Add", made.node("Mul", "noise", np.float32(SCALE)), np.float32(SHIFT), output="latents")


def _dense(made: _Graph) -> None:
    whitened = made.node("Div", made.node("Sub", "latents", np.float32(SHIFT)), np.float32(SCALE))
    squares = made.node("ReduceSum", made.node("Mul", whitened, whitened), np.array([1]), keepdims=0)
    constant = SIZE * (math.log(SCALE) + 0.5 * math.log(2 * math.pi))
    made.node("Sub", made.node("Mul", squares, np.float32(-0.5)), np.float32(constant), output="log_densities")


def _spec(name: str, *, integers: bool = False) -> TensorSpec:
    kind = DATA_TYPE_UINT8 if integers and name == "images" else DATA_TYPE_FLOAT32
    return TensorSpec(name=name, data_type=kind, shape=[-1, *_SHAPES[name]])


def _port(spec: TensorSpec) -> object:
    kind = TensorProto.UINT8 if spec.data_type == DATA_TYPE_UINT8 else TensorProto.FLOAT
    return helper.make_tensor_value_info(spec.name, kind, ["batch", *spec.shape[1:]])


def _case(signature: Signature, data: bytes) -> Case:
    rng = np.random.default_rng(2)
    inputs = {
        spec.name: rng.integers(0, 256, (3, *spec.shape[1:]), np.uint8)
        if spec.data_type == DATA_TYPE_UINT8
        else rng.normal(0, 1, (3, *spec.shape[1:])).astype(np.float32)
        for spec in signature.inputs
    }
    return Case(inputs, {signature.outputs[0].name: run(data, inputs)[0]})
