"""Golden vectors: what every graph must give a server before it serves, and what `Sample` must draw."""

from collections.abc import Sequence

import numpy as np
from autoencoder.v1.model_pb2 import Signature

from bundle import latents
from bundle.golden import ROWS, SEED, TEMPERATURE, Array, Case, Golden, SampleCase
from bundle.latents import LatentStatistics
from export.errors import Failure, GateError
from export.gate.images import beside, golden_noise, golden_sizes, resized
from export.gate.inputs import answer, narrowed, real, repeated, undecided
from export.gate.traces import Choices
from export.graphs.methods import Method, facts


def golden_vectors(
    exact: Sequence[tuple[Method, Signature]], images: Array, statistics: LatentStatistics | None
) -> Golden:
    """Golden vectors from float64 methods; `images` (N, H, W, C) are held-out ones. Free sizes have cases of two."""
    cases = {
        signature.name: tuple(_case(method, signature, rows) for rows in _inputs(method, signature, images))
        for method, signature in exact
    }
    return Golden(cases, _sample(exact, statistics))


def _case(method: Method, signature: Signature, rows: Array) -> Case:
    others, seen = beside(facts(method.model), signature, len(rows)), Choices()
    answers = answer(method, rows, signature, others, seen)
    if seen.tied:
        # Another machine may choose otherwise, and be right.
        left_out = undecided(method, rows, signature, answers, others)
        decided = ~np.any([mask.reshape(len(rows), -1).any(1) for mask in left_out.values()], axis=0)
        if not decided.any():
            raise GateError("numbers", [Failure(signature.name, "", "every golden image has a nearly tied choice")])
        rows, others = rows[decided], [each[decided] for each in others]
        answers = {name: array[decided] for name, array in answers.items()}
    outputs = {name: narrowed(array) for name, array in answers.items()}
    return Case(dict(zip([spec.name for spec in signature.inputs], (rows, *others), strict=True)), outputs)


def _inputs(method: Method, signature: Signature, images: Array) -> list[Array]:
    about = facts(method.model)
    first, second = golden_sizes(about.shapes)
    given = real(method, signature, repeated(resized(images, first), ROWS))[0]
    return [given, golden_noise(signature, second, about.shapes)]


def _sample(exact: Sequence[tuple[Method, Signature]], statistics: LatentStatistics | None) -> SampleCase | None:
    found = {signature.name: (method, signature) for method, signature in exact}
    if "decode" not in found:
        return None
    method, signature = found["decode"]
    about = facts(method.model)
    if not about.has_density(statistics is not None):
        return None
    first = golden_sizes(about.shapes)[0]
    shape = about.shapes.sized(first).spec("latents")[1:]
    drawn = latents.draw(about.family, shape, statistics, SEED, 0, ROWS, TEMPERATURE)
    if drawn is None:
        return None
    noise, points = None, drawn
    if "prior" in found:
        learned, about_prior = found["prior"]
        noise, points = drawn, narrowed(answer(learned, drawn, about_prior)["latents"])
    images = narrowed(answer(method, points, signature)["images"])
    return SampleCase(SEED, ROWS, TEMPERATURE, points, images, noise)
