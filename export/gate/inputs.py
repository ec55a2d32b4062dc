"""Test inputs of the gate: every kind of input to a graph, with the network's answers in float64."""

from collections.abc import Mapping

import numpy as np
import torch
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature
from numpy.typing import NDArray
from torch import nn

from bundle.golden import Array
from bundle.noise import Purpose, normals, uniforms
from export.gate.parity import TestInput
from export.graphs.methods import Encode, Method
from export.graphs.tensor_specs import TESTED_BATCHES

_NOISE_SIGMA = 0.5
_CHUNK_ROWS = 64


def test_inputs(method: Method, signature: Signature, images: Array, largest: int) -> list[TestInput]:
    """Test inputs of a float64 method, `largest` rows at most; `images` (N, H, W, C) uint8 are held-out ones."""
    spec = signature.inputs[0]
    kinds = _latents(method, images, largest) if spec.name == "latents" else _images(images, largest)
    if spec.name == "images" and spec.data_type != DATA_TYPE_UINT8:
        kinds = _as_floats(kinds)
    return [TestInput(kind, {spec.name: rows}, answer(method, rows, signature)) for kind, rows in kinds.items()]


def answer(method: Method, rows: Array, signature: Signature) -> dict[str, Array]:
    """Outputs of a method by name, computed in the precision of its network."""
    chunks: list[tuple[Array, ...]] = []
    with torch.no_grad():
        for start in range(0, len(rows), _CHUNK_ROWS):
            given: torch.Tensor | tuple[torch.Tensor, ...] = method(_tensor(rows[start : start + _CHUNK_ROWS], method))
            chunks.append(tuple(_array(each) for each in (given if isinstance(given, tuple) else (given,))))
    names = [spec.name for spec in signature.outputs]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*chunks, strict=True), strict=True)}


def encode(model: nn.Module, images: Array) -> NDArray[np.float32]:
    """(N, H, W, C) uint8 to latents (N, D), computed in the precision of the network."""
    with torch.no_grad():
        return narrowed(_array(Encode(model)(torch.tensor(images))[0]))


def narrowed(values: Array) -> NDArray[np.float32]:
    """To float32; what does not fit becomes infinite, and the check of numbers refuses it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def noisy(images: Array) -> NDArray[np.float32]:
    """(N, H, W, C) uint8 to float32 in 0 … 1 with Gaussian noise added: what a denoiser is for."""
    size = int(np.prod(images.shape[1:]))
    noise = normals(0, Purpose.SAMPLE, 0, len(images), size).reshape(images.shape)
    noised = images.astype(np.float32) / np.float32(255) + np.float32(_NOISE_SIGMA) * noise
    return np.clip(noised, 0, 1).astype(np.float32)


def repeated(images: Array, count: int) -> Array:
    """The first `count` images, from the beginning again where there are fewer."""
    return np.resize(images, (count, *images.shape[1:]))


def _tensor(rows: Array, method: Method) -> torch.Tensor:
    # Copied: torch warns of arrays that it may not write to.
    tensor = torch.tensor(rows)
    return tensor if rows.dtype == np.uint8 else tensor.to(method.precision)


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.numpy())


def _images(images: Array, largest: int) -> dict[str, Array]:
    few, shape = TESTED_BATCHES[-1], images.shape[1:]
    drawn = uniforms(1, Purpose.SAMPLE, 0, largest, int(np.prod(shape))).reshape(largest, *shape)
    return {
        "held-out images": repeated(images, largest),
        "uniform noise": np.floor(drawn * 256).astype(np.uint8),
        "zeros": np.zeros((few, *shape), np.uint8),
        "ones": np.full((few, *shape), 255, np.uint8),
        "extremes": np.where(drawn[:few] < 0.5, 0, 255).astype(np.uint8),  # noqa: PLR2004 (a fair coin)
    }


def _as_floats(kinds: Mapping[str, Array]) -> dict[str, Array]:
    scaled = {kind: rows.astype(np.float32) / np.float32(255) for kind, rows in kinds.items()}
    return {**scaled, "noisy images": noisy(kinds["held-out images"])}


def _latents(method: Method, images: Array, largest: int) -> dict[str, Array]:
    encoded = encode(method.model, repeated(images, largest))
    drawn = normals(1, Purpose.SAMPLE, 0, largest, encoded.shape[1])
    return {
        "latents of held-out images": encoded,
        "N(0, 1)": drawn,
        "N(0, 3)": np.float32(3) * drawn,
        "zeros": np.zeros_like(drawn[: TESTED_BATCHES[-1]]),
    }
