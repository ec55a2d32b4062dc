"""Small bundles whose graphs take images of any size, or noise levels beside them, with random weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, Detection, NoiseLevel, Signature, SizeRange, TensorSpec, Tiling
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bundle import layout
from bundle.golden import Case, Golden

FREE = -1
FEATURES = 8
# What the graphs need: two convolutions beside one at half the size.
TILING = Tiling(halo=4, multiple=2, tile=32, exact=True)
SIZES = SizeRange(multiple=2, minimum=1, maximum_pixels=10**8)
GOLDEN_SIZES = ((16, 16), (10, 22))

# Of scores from 0 to 1.
DETECTION = Detection(
    score="max",
    rates=[0.001, 0.01, 0.1],
    thresholds=[0.875, 0.5, 0.25],
    map_thresholds=[0.9375, 0.625, 0.375],
    default_rate=0.01,
    map_low=0.125,
    calibrated_on=1000,
    rate_lower=[0.0001, 0.004, 0.08],
    rate_upper=[0.006, 0.02, 0.13],
    calibrated_height=16,
    calibrated_width=16,
)


class Chain:
    """Nodes on NCHW, each of which takes what the one before gives; weights are drawn from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._value = "images"
        self._rng = np.random.default_rng(seed)

    def then(self, operator: str, *others: np.ndarray | str, output: str = "", **attributes: object) -> "Chain":
        made = output or f"x{len(self.nodes)}"
        names = [each if isinstance(each, str) else self._stored(each) for each in others]
        self.nodes.append(helper.make_node(operator, [self._value, *names], [made], **attributes))
        self._value = made
        return self

    def conv(self, inside: int, outside: int, stride: int = 1) -> "Chain":
        return self.then("Conv", self._drawn(outside, inside, 3, 3), pads=[1, 1, 1, 1], strides=[stride, stride])

    def doubled(self, inside: int, outside: int) -> "Chain":
        return self.then("ConvTranspose", self._drawn(inside, outside, 2, 2), strides=[2, 2])

    def plus(self, value: str) -> "Chain":
        """Add (N,) numbers, in another proportion to each feature."""
        self.nodes.append(helper.make_node("Reshape", [value, self._stored(np.array([-1, 1, 1, 1]))], ["levels"]))
        self.nodes.append(helper.make_node("Mul", ["levels", self._stored(self._drawn(1, FEATURES, 1, 1))], ["shift"]))
        return self.then("Add", "shift")

    def plus_mean(self) -> "Chain":
        """Add what the image is on average."""
        self.nodes.append(helper.make_node("GlobalAveragePool", [self._value], ["mean"]))
        return self.then("Add", "mean")

    def smoothed(self) -> "Chain":
        """Mean of 3 x 3 pixels of grey images (N, H, W, 1)."""
        self.then("Transpose", perm=[0, 3, 1, 2]).then("Conv", np.full((1, 1, 3, 3), 1 / 9, np.float32), pads=[1] * 4)
        return self.then("Transpose", perm=[0, 2, 3, 1])

    def squared(self, output: str) -> "Chain":
        return self.then("Mul", self._value, output=output)

    def reduced(self, operator: str, output: str) -> "Chain":
        """Number of each row."""
        return self.then(operator, self._stored(np.array([1, 2, 3])), keepdims=0, output=output)

    def _drawn(self, *shape: int) -> np.ndarray:
        return self._rng.normal(0, 0.3, shape).astype(np.float32)

    def _stored(self, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name


def denoiser(*, levels: bool = False, whole: bool = False) -> Chain:
    """A convolution, one at half the size, one more; the graph takes noise levels, or looks at the whole image."""
    chain = Chain().then("Transpose", perm=[0, 3, 1, 2]).conv(1, FEATURES).then("Relu").conv(FEATURES, FEATURES, 2)
    if levels:
        chain.plus("noise_levels")
    if whole:
        chain.plus_mean()
    chain.then("Relu").doubled(FEATURES, FEATURES).then("Relu").conv(FEATURES, 1)
    return chain.then("Transpose", perm=[0, 2, 3, 1], output="denoised")


def spec(name: str, *axes: int) -> TensorSpec:
    return TensorSpec(name=name, data_type=DATA_TYPE_FLOAT32, shape=[FREE, *axes])


def graph(chain: Chain, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    made = helper.make_graph(
        chain.nodes, "free", [_port(each) for each in inputs], [_port(each) for each in outputs], chain.weights
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def run(data: bytes, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph on onnxruntime directly."""
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, dict(inputs))


def write_denoiser(
    repository: Path,
    name: str = "free",
    *,
    size: int = 0,
    levels: bool = False,
    whole: bool = False,
    tiling: Tiling | None = TILING,
    buckets: Sequence[int] = (1, 2, 4),
) -> bytes:
    """A denoiser of images of any size, or `size` x `size`; returns its graph."""
    axes = (size or FREE, size or FREE, 1)
    inputs = [spec("images", *axes), *([spec("noise_levels")] if levels else [])]
    outputs = [spec("denoised", *axes)]
    data = graph(denoiser(levels=levels, whole=whole), inputs, outputs)
    signature = Signature(name="denoise", file="denoise.onnx", inputs=inputs, outputs=outputs, batch_buckets=buckets)
    signature.batch_invariant = True
    if tiling is not None and not size and not whole:
        signature.tiling.CopyFrom(tiling)
    cases = tuple(_case(data, signature, sides) for sides in ([(size, size)] if size else GOLDEN_SIZES))
    model = model_pb2.Model(methods=["Denoise"], family="denoiser", height=size, width=size, channels=1)
    if levels:
        model.noise_level.CopyFrom(NoiseLevel(minimum=0, maximum=0.5, default=0.1))
    write_bundle(repository, name, model, {signature.name: (signature, data)}, {signature.name: cases})
    return data


def write_autoencoder(repository: Path, name: str = "free-ae") -> dict[str, bytes]:
    """An encoder to half the size, its decoder, and both in one, for images of any size; returns their graphs."""
    images, latents = spec("images", FREE, FREE, 1), spec("latents", FREE, FREE, 2)
    both = Chain().then("Transpose", perm=[0, 3, 1, 2]).conv(1, FEATURES).then("Relu").conv(FEATURES, 2, 2)
    both.conv(2, FEATURES).then("Relu").doubled(FEATURES, 1)
    encoder = Chain().then("Transpose", perm=[0, 3, 1, 2]).conv(1, FEATURES).then("Relu").conv(FEATURES, 2, 2)
    decoder = Chain().conv(2, FEATURES).then("Relu").doubled(FEATURES, 1)
    decoder.nodes.insert(0, helper.make_node("Transpose", ["latents"], ["images_"], perm=[0, 3, 1, 2]))
    decoder.nodes[1].input[0] = "images_"
    chains = {
        "encode": (encoder.then("Transpose", perm=[0, 2, 3, 1], output="latents"), images, latents),
        "decode": (decoder.then("Transpose", perm=[0, 2, 3, 1], output="images"), latents, images),
        "reconstruct": (
            both.then("Transpose", perm=[0, 2, 3, 1], output="reconstructions"),
            images,
            spec("reconstructions", FREE, FREE, 1),
        ),
    }
    parts: dict[str, tuple[Signature, bytes]] = {}
    for method, (chain, source, target) in chains.items():
        data = graph(chain, [source], [target])
        signature = Signature(name=method, file=f"{method}.onnx", inputs=[source], outputs=[target])
        signature.batch_buckets.extend((1, 2, 4))
        signature.tiling.CopyFrom(TILING if method != "decode" else Tiling(halo=2, multiple=1, tile=16, exact=True))
        parts[method] = signature, data
    cases = {name: tuple(_case(data, each, sides) for sides in GOLDEN_SIZES) for name, (each, data) in parts.items()}
    model = model_pb2.Model(
        methods=["Encode", "Decode", "Reconstruct", "Sample", "Interpolate"],
        family="module",
        channels=1,
        latent_shape=[0, 0, 2],
        downsampling=2,
    )
    write_bundle(repository, name, model, parts, cases)
    return {name: data for name, (_, data) in parts.items()}


def write_detector(
    repository: Path,
    name: str = "detector",
    *,
    size: int = 0,
    score: str = "max",
    detection: Detection = DETECTION,
    smooth: bool = False,
) -> bytes:
    """A detector whose maps are the images squared, of any size or `size` x `size`; returns its graph."""
    axes = (size or FREE, size or FREE, 1)
    chain, outputs = (Chain().smoothed() if smooth else Chain()).squared("maps"), [spec("maps", *axes)]
    if size:
        chain.reduced("ReduceMax" if score == "max" else "ReduceMean", "scores")
        outputs = [spec("scores"), *outputs]
    data = graph(chain, [spec("images", *axes)], outputs)
    signature = Signature(name="detect", file="detect.onnx", inputs=[spec("images", *axes)], outputs=outputs)
    signature.batch_buckets.extend((1, 2, 4))
    signature.batch_invariant = True
    if not size:
        signature.tiling.CopyFrom(TILING)
    cases = tuple(_case(data, signature, sides) for sides in ([(size, size)] if size else GOLDEN_SIZES))
    model = model_pb2.Model(methods=["Detect"], family="module", height=size, width=size, channels=1)
    model.detection.CopyFrom(detection)
    model.detection.score = score
    if size:
        model.detection.calibrated_height = model.detection.calibrated_width = size
    write_bundle(repository, name, model, {signature.name: (signature, data)}, {signature.name: cases})
    return data


def limit_pixels(version: Path, pixels: int) -> None:
    """Have the model of a version take no larger images in a request."""
    model = layout.read_model(version)
    model.sizes.maximum_pixels = pixels
    (version / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def write_bundle(
    repository: Path,
    name: str,
    model: model_pb2.Model,
    parts: Mapping[str, tuple[Signature, bytes]],
    cases: Mapping[str, tuple[Case, ...]],
) -> None:
    """Version 1 of a model."""
    files = {signature.file: data for signature, data in parts.values()}
    files[layout.GOLDEN_FILE] = Golden(cases).to_bytes()
    model.name, model.version = name, "1"
    if not model.height:
        model.sizes.CopyFrom(SIZES)
    model.signatures.extend(signature for signature, _ in parts.values())
    model.files.extend(layout.describe_files(files))
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def _case(data: bytes, signature: Signature, sides: Sequence[int]) -> Case:
    rng = np.random.default_rng(1)
    inputs = {
        each.name: rng.random((3, *sides, each.shape[-1]) if len(each.shape) > 1 else (3,), np.float32)
        for each in signature.inputs
    }
    names = [each.name for each in signature.outputs]
    return Case(inputs, dict(zip(names, run(data, inputs), strict=True)))


def _port(tensor: TensorSpec) -> object:
    names = {0: "batch", 1: "height", 2: "width"}
    prefix = "latent_" if tensor.name == "latents" else ""
    shape = [
        "batch" if axis == 0 else size if size != FREE else prefix + names[axis]
        for axis, size in enumerate(tensor.shape)
    ]
    return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape)
