"""Golden vectors: what a server must get from every graph before it serves, and what `Sample` must draw."""

from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature
from numpy.typing import NDArray

from bundle.golden import Case, Golden, SampleCase
from bundle.latents import LatentStatistics, prior, standard
from bundle.noise import Purpose, normals, uniforms
from export.signatures import Decode, Method
from export.trials import Array, answer, encode, narrowed, noisy, repeated

_ROWS = 4
_SEED = 20260117
_TEMPERATURE = 1.0


def golden(exact: Sequence[tuple[Method, Signature]], images: Array, latents: LatentStatistics | None) -> Golden:
    """Golden vectors from float64 methods; `images` (N, H, W, C) uint8 are held-out ones."""
    cases = {
        signature.name: tuple(_case(method, signature, rows) for rows in _inputs(method, signature, images))
        for method, signature in exact
    }
    return Golden(cases, next((_sample(m, s, latents) for m, s in exact if isinstance(m, Decode)), None))


def draw(family: str, latent_size: int, latents: LatentStatistics | None, seed: int) -> NDArray[np.float32] | None:
    """(4, D) latents that `Sample` draws for a seed; None where the family has no density to draw from."""
    kind = prior(family)
    if latents is not None:
        return latents.sample(seed, 0, _ROWS, _TEMPERATURE, kind)
    return standard(seed, 0, _ROWS, latent_size, _TEMPERATURE) if kind == "normal" else None


def _case(method: Method, signature: Signature, rows: Array) -> Case:
    outputs = {name: narrowed(array) for name, array in answer(method, rows, signature).items()}
    return Case({signature.inputs[0].name: rows}, outputs)


def _inputs(method: Method, signature: Signature, images: Array) -> list[Array]:
    spec, real = signature.inputs[0], repeated(images, _ROWS)
    size = int(np.prod(spec.shape[1:]))
    if spec.name == "latents":
        return [encode(method.model, real), normals(_SEED, Purpose.ENCODE, 0, _ROWS, size)]
    noise = uniforms(_SEED, Purpose.ENCODE, 0, _ROWS, size).reshape(_ROWS, *spec.shape[1:])
    if spec.data_type == DATA_TYPE_UINT8:
        return [real, np.floor(noise * 256).astype(np.uint8)]
    return [noisy(real), noise.astype(np.float32)]


def _sample(method: Method, signature: Signature, latents: LatentStatistics | None) -> SampleCase | None:
    drawn = draw(method.model.family, method.model.latent_size, latents, _SEED)
    if drawn is None:
        return None
    images = narrowed(answer(method, drawn, signature)["images"])
    return SampleCase(_SEED, _ROWS, _TEMPERATURE, drawn, images)
