"""What a load runs of a graph: how many rows of which size at most, and how much memory that takes."""

from math import isqrt
from typing import Any

from autoencoder.v1.model_pb2 import Signature
from autoencoder.v1.shapes import FREE, Shapes

from bundle.graph_memory.estimate import Estimate, estimate
from bundle.graph_proto import parse

MAX_BATCH = 4096
"""Far above any batch worth warming up, far below one whose warm-up would exhaust the memory."""
_DEFAULT_ROWS = 256
_GOLDEN_ROWS = 16
# Side of the images that a graph of free sizes without tiles is tried with.
_TRIAL_PIXELS = 256
ANY_SHAPES = Shapes((0, 0, 0), (0,))
"""Of a model of free sizes whose multiple is not known."""


def largest_batch(signature: Signature) -> int:
    """Most rows that a load may run at once: of the warm-up, or of the golden vectors."""
    return min(max((_GOLDEN_ROWS, *(signature.batch_buckets or (_DEFAULT_ROWS,)))), MAX_BATCH)


def _trial_rows(signature: Signature) -> int:
    """Most rows of a trial run: golden vectors of free sizes have sizes of their own, smaller ones."""
    free = any(FREE in spec.shape[1:] for spec in signature.inputs)
    return (
        min(max(signature.batch_buckets), MAX_BATCH) if free and signature.batch_buckets else largest_batch(signature)
    )


def trial_side(signature: Signature, shapes: Shapes) -> int:
    """Length of the free axes of a graph's input in warm-up: of a tile, or of a common image where it has no tiles."""
    return signature.tiling.tile or shapes.padded(_TRIAL_PIXELS, 1)[0] // _scale(signature, shapes)


def _scale(signature: Signature, shapes: Shapes) -> int:
    """Pixels for each cell of a graph's input, along each axis."""
    return shapes.downsampling if signature.inputs[0].name == "latents" and shapes.downsampling else 1


def run_memory(
    model: Any,  # noqa: ANN401 (made from a descriptor at run time)
    signature: Signature,
    rows: int = 0,
    side: int = 0,
    shapes: Shapes = ANY_SHAPES,
) -> Estimate:
    """Estimate the memory of a graph with allowed operators, by default with the largest batch of its warm-up.

    Raises:
        BundleError: the size of a tensor cannot be known before the graph runs.
    """
    rows, side = rows or _trial_rows(signature), side or trial_side(signature, shapes)
    inputs = {
        spec.name: (rows, *(side if size == FREE else size for size in spec.shape[1:])) for spec in signature.inputs
    }
    return estimate(model.graph, inputs)


def untiled_pixels(graph: bytes, signature: Signature, shapes: Shapes, most: int, max_run_bytes: int) -> int:
    """Most pixels, up to `most`, of an image that a graph of free sizes can run whole in this memory."""
    model = parse(graph)
    while most >= shapes.multiple**2:
        side = isqrt(most) // shapes.multiple * shapes.multiple // _scale(signature, shapes)
        needed = run_memory(model, signature, rows=1, side=side)
        if needed.constants + needed.run <= max_run_bytes:
            return most
        most //= 2
    return 0
