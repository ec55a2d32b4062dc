"""Tensor specs: inputs and outputs of the graphs of a model, and the RPCs it serves with them; no torch, no onnx."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from autoencoder.v1.model_pb2 import DATA_TYPE_FLOAT32, DATA_TYPE_UINT8, DataType, Signature, TensorSpec

# Batch sizes that the gate tries, and beyond them the number of rows that a test has.
TESTED_BATCHES = (1, 2, 3, 7, 8, 17)
LARGEST_BATCH = 256
# Numbers in the images of the largest batch: beyond it, large images need memory and test nothing more.
_LARGEST_BATCH_NUMBERS = 2**20


@dataclass(frozen=True)
class Facts:
    """What the shapes of a model's tensors follow from."""

    family: str
    variational: bool
    """Whether the encoder returns log-variances too."""
    image_shape: tuple[int, int, int]
    latent_size: int
    labels: tuple[str, ...]


def batch_buckets(image_shape: tuple[int, int, int]) -> list[int]:
    """List the batch sizes worth warming up, ascending: powers of two up to the largest that export tries."""
    fitting = _LARGEST_BATCH_NUMBERS // prod(image_shape)
    largest = min(LARGEST_BATCH, max(2 * TESTED_BATCHES[-1], fitting))
    return [2**exponent for exponent in range(largest.bit_length())]


def signature(name: str, about: Facts) -> Signature:
    """Names, types and shapes of a graph's tensors, as documented in the API."""
    inputs, outputs = _tensors(about)[name]
    return Signature(name=name, file=f"{name}.onnx", inputs=inputs, outputs=outputs)


def served_methods(about: Facts, graphs: Mapping[str, object], attributes: object, density: bool) -> list[str]:
    """RPC names that a model serves with these graphs; `density`: whether there is one to sample from."""
    encode, decode = "encode" in graphs, "decode" in graphs
    served = {
        "Encode": encode,
        "Decode": decode,
        "Reconstruct": "reconstruct" in graphs,
        "Denoise": "denoise" in graphs,
        "Sample": decode and density,
        "Interpolate": encode and decode,
        "Edit": encode and decode and bool(attributes),
        "Classify": "classify" in graphs and bool(about.labels),
    }
    return [name for name, able in served.items() if able]


def _tensors(about: Facts) -> dict[str, tuple[list[TensorSpec], list[TensorSpec]]]:
    images = _spec("images", DATA_TYPE_UINT8, *about.image_shape)
    floats = [_spec(name, DATA_TYPE_FLOAT32, *about.image_shape) for name in ("images", "reconstructions", "denoised")]
    latents = _spec("latents", DATA_TYPE_FLOAT32, about.latent_size)
    log_variances = [_spec("log_variances", DATA_TYPE_FLOAT32, about.latent_size)]
    return {
        "encode": ([images], [latents, *(log_variances if about.variational else [])]),
        "decode": ([latents], [floats[0]]),
        "reconstruct": ([images], [floats[1], _spec("squared_errors", DATA_TYPE_FLOAT32)]),
        "denoise": ([floats[0]], [floats[2]]),
        "classify": ([images], [_spec("probabilities", DATA_TYPE_FLOAT32, len(about.labels))]),
    }


def _spec(name: str, data_type: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, data_type=data_type, shape=[-1, *shape])
