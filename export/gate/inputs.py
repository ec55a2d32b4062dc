"""Test inputs of the gate: every kind of input to a graph, with the network's answers in float64."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import Size
from numpy.typing import NDArray
from torch import nn

from bundle.golden import Array
from bundle.noise import Purpose, normals, uniforms
from export.gate.images import beside, fed, pixels, resized, tested_sizes
from export.gate.parity import TestInput
from export.gate.traces import Choices
from export.graphs.methods import Encode, Method, facts
from export.graphs.tensor_specs import TESTED_BATCHES

_NOISE_SIGMA = 0.5
_UNCLIPPED_SIGMA = 0.2
_CHUNK_ROWS = 64
_FEW_ROWS = 3


def test_inputs(method: Method, signature: Signature, images: Array, largest: int) -> list[TestInput]:
    """Test inputs of a float64 method, `largest` rows at most; `images` (N, H, W, C) are held-out ones.

    Of free sizes the most rows and kinds of input have the smallest size, and the others few.
    """
    about = facts(method.model)
    if not about.shapes.free:
        return _of_kinds(method, signature, _kinds(method, signature, images, largest))
    sizes = tested_sizes(about.shapes)
    found = _of_kinds(method, signature, _kinds(method, signature, resized(images, sizes[0]), largest), sizes[0])
    for size in sizes[1:]:
        rows = 1 if size == sizes[-1] else _FEW_ROWS
        kinds = _kinds(method, signature, resized(images, size), rows)
        chosen = {kind: drawn[:rows] for kind, drawn in kinds.items() if kind in _AT_EVERY_SIZE}
        found += _of_kinds(method, signature, chosen, size)
    return found


def answer(
    method: Method, rows: Array, signature: Signature, others: Sequence[Array] = (), choices: Choices | None = None
) -> dict[str, Array]:
    """Outputs of a method by name, computed in the precision of its network; `others`: rows of further inputs."""
    chunks: list[tuple[Array, ...]] = []
    with torch.no_grad(), choices or nullcontext():
        for start in range(0, len(rows), _CHUNK_ROWS):
            inputs = [_tensor(each[start : start + _CHUNK_ROWS], method) for each in (rows, *others)]
            given: torch.Tensor | tuple[torch.Tensor, ...] = method(*inputs)
            chunks.append(tuple(_array(each) for each in (given if isinstance(given, tuple) else (given,))))
    names = [spec.name for spec in signature.outputs]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*chunks, strict=True), strict=True)}


def undecided(
    method: Method, rows: Array, signature: Signature, expected: Mapping[str, Array], others: Sequence[Array] = ()
) -> dict[str, NDArray[np.bool_]]:
    """Which numbers of the answer are others where the second best is taken of what is nearly tied."""
    other = answer(method, rows, signature, others, Choices(other=True))
    return {name: other[name] != array for name, array in expected.items()}


def real(method: Method, signature: Signature, images: Array) -> list[Array]:
    """What a method gets of held-out images (N, H, W, C): an array for each input."""
    about = facts(method.model)
    first: Array
    if signature.inputs[0].name == "latents":
        first = encode(method.model, images)
    elif signature.inputs[0].name == "noise":
        first = normals(0, Purpose.SAMPLE, 0, len(images), about.latent_size)
    elif method.name == "denoise":
        first = noisy(images, clipped=not about.float_images)
    else:
        first = fed(images, signature)
    return [first, *beside(about, signature, len(images))]


def encode(model: nn.Module, images: Array) -> NDArray[np.float32]:
    """(N, H, W, C) to latents (N, D) or (N, h, w, c), computed in the precision of the network."""
    given = images if images.dtype == np.uint8 and not facts(model).float_images else pixels(images)
    with torch.no_grad():
        return narrowed(_array(Encode(model)(torch.tensor(given))[0]))


def narrowed(values: Array) -> NDArray[np.float32]:
    """To float32; what does not fit becomes infinite, and the check of numbers refuses it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def noisy(images: Array, *, clipped: bool = True) -> NDArray[np.float32]:
    """(N, H, W, C) to float32 with Gaussian noise added, what a denoiser is for: in 0 … 1, or where noise takes it."""
    size = int(np.prod(images.shape[1:]))
    noise = normals(0, Purpose.SAMPLE, 0, len(images), size).reshape(images.shape)
    if not clipped:
        return (pixels(images) + np.float32(_UNCLIPPED_SIGMA) * noise).astype(np.float32)
    return np.clip(pixels(images) + np.float32(_NOISE_SIGMA) * noise, 0, 1).astype(np.float32)


def repeated(images: Array, count: int) -> Array:
    """The first `count` images, from the beginning again where there are fewer."""
    return np.resize(images, (count, *images.shape[1:]))


def _tensor(rows: Array, method: Method) -> torch.Tensor:
    # Copied: torch warns of arrays that it may not write to.
    tensor = torch.tensor(rows)
    return tensor if rows.dtype == np.uint8 else tensor.to(method.precision)


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.numpy())


def _of_kinds(
    method: Method, signature: Signature, kinds: Mapping[str, Array], size: Size | None = None
) -> list[TestInput]:
    """Kinds of input with the network's answers; of free sizes their names say the size."""
    about, found = facts(method.model), list[TestInput]()
    for kind, rows in kinds.items():
        others = beside(about, signature, len(rows))
        inputs = dict(zip([spec.name for spec in signature.inputs], (rows, *others), strict=True))
        where = kind if size is None else f"{kind} of {size[0]} x {size[1]}"
        seen = Choices()
        expected = answer(method, rows, signature, others, seen)
        left_out = undecided(method, rows, signature, expected, others) if seen.tied else {}
        found.append(TestInput(where, inputs, expected, left_out, seen.rows, seen.tied))
    return found


def _kinds(method: Method, signature: Signature, images: Array, largest: int) -> dict[str, Array]:
    if signature.inputs[0].name == "latents":
        return _latents(method, images, largest)
    if signature.inputs[0].name == "noise":
        return _noise(facts(method.model).latent_size, largest)
    kinds = _images(fed(images, signature), largest)
    if method.name != "denoise":
        return kinds
    return _as_noisy(kinds, images, clipped=not facts(method.model).float_images)


def _images(images: Array, largest: int) -> dict[str, Array]:
    few, shape = TESTED_BATCHES[-1], images.shape[1:]
    drawn = uniforms(1, Purpose.SAMPLE, 0, largest, int(np.prod(shape))).reshape(largest, *shape)
    kinds = {
        "uniform noise": np.floor(drawn * 256).astype(np.uint8),
        "zeros": np.zeros((few, *shape), np.uint8),
        "ones": np.full((few, *shape), 255, np.uint8),
        "extremes": np.where(drawn[:few] < 0.5, 0, 255).astype(np.uint8),  # noqa: PLR2004 (a fair coin)
    }
    scaled = kinds if images.dtype == np.uint8 else {kind: pixels(rows) for kind, rows in kinds.items()}
    return {"held-out images": repeated(images, largest), **scaled}


def _as_noisy(kinds: Mapping[str, Array], images: Array, *, clipped: bool) -> dict[str, Array]:
    found = {**kinds, "noisy images": noisy(repeated(images, len(kinds["held-out images"])), clipped=clipped)}
    return found if clipped else {**found, "beyond 0 … 1": 3 * kinds["uniform noise"] - 1}


def _latents(method: Method, images: Array, largest: int) -> dict[str, Array]:
    encoded = encode(method.model, repeated(images, largest))
    drawn = normals(1, Purpose.SAMPLE, 0, largest, int(np.prod(encoded.shape[1:]))).reshape(encoded.shape)
    return {
        "latents of held-out images": encoded,
        "N(0, 1)": drawn,
        "N(0, 3)": np.float32(3) * drawn,
        "zeros": np.zeros_like(drawn[: TESTED_BATCHES[-1]]),
    }


def _noise(size: int, largest: int) -> dict[str, Array]:
    drawn = normals(1, Purpose.SAMPLE, 0, largest, size)
    return {"N(0, 1)": drawn, "N(0, 2)": np.float32(2) * drawn, "zeros": np.zeros_like(drawn[: TESTED_BATCHES[-1]])}


_AT_EVERY_SIZE = {
    "held-out images",
    "uniform noise",
    "noisy images",
    "beyond 0 … 1",
    "latents of held-out images",
    "N(0, 1)",
}
