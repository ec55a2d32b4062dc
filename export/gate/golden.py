"""Golden vectors: what every graph must give a server before it serves, and what `Sample` must draw."""

from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature

from bundle import latents
from bundle.golden import ROWS, SEED, TEMPERATURE, Array, Case, Golden, SampleCase
from bundle.latents import LatentStatistics
from bundle.noise import Purpose, normals, uniforms
from export.gate.inputs import answer, encode, narrowed, noisy, repeated
from export.graphs.methods import Decode, Method


def golden_vectors(
    exact: Sequence[tuple[Method, Signature]], images: Array, statistics: LatentStatistics | None
) -> Golden:
    """Golden vectors from float64 methods; `images` (N, H, W, C) uint8 are held-out ones."""
    cases = {
        signature.name: tuple(_case(method, signature, rows) for rows in _inputs(method, signature, images))
        for method, signature in exact
    }
    return Golden(cases, next((_sample(m, s, statistics) for m, s in exact if isinstance(m, Decode)), None))


def _case(method: Method, signature: Signature, rows: Array) -> Case:
    outputs = {name: narrowed(array) for name, array in answer(method, rows, signature).items()}
    return Case({signature.inputs[0].name: rows}, outputs)


def _inputs(method: Method, signature: Signature, images: Array) -> list[Array]:
    spec, real = signature.inputs[0], repeated(images, ROWS)
    size = int(np.prod(spec.shape[1:]))
    if spec.name == "latents":
        return [encode(method.model, real), normals(SEED, Purpose.ENCODE, 0, ROWS, size)]
    noise = uniforms(SEED, Purpose.ENCODE, 0, ROWS, size).reshape(ROWS, *spec.shape[1:])
    if spec.data_type == DATA_TYPE_UINT8:
        return [real, np.floor(noise * 256).astype(np.uint8)]
    return [noisy(real), noise.astype(np.float32)]


def _sample(method: Method, signature: Signature, statistics: LatentStatistics | None) -> SampleCase | None:
    model = method.model
    drawn = latents.draw(model.family, model.latent_size, statistics, SEED, 0, ROWS, TEMPERATURE)
    if drawn is None:
        return None
    images = narrowed(answer(method, drawn, signature)["images"])
    return SampleCase(SEED, ROWS, TEMPERATURE, drawn, images)
