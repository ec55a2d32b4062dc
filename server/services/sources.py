"""Points of the latent space that a request gives as images to encode or as latents."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb

from server.batching.entry import Each, Entry
from server.calls.call import Call
from server.codec import tensors
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.services.graph_calls import GraphCalls, Latents
from server.types import Array


@dataclass(frozen=True)
class Source:
    """Images to encode, or latents as a tensor; `field` is their name in the request."""

    field: str
    given: pb.Images | pb.Tensor
    limit_rows: int


# Name in the request, images, most rows.
_Pixels: TypeAlias = tuple[str, pb.Images, int]
Done: TypeAlias = Callable[[list[Latents]], None]


def run(graphs: GraphCalls, call: Call, served: ServedModel, sources: Sequence[Source], done: Done) -> None:
    """Turn each source into latents (N, D) or (N, h, w, c), all images of the call together; `done` gets them."""
    job = partial(_encode, graphs, call, served, sources, done)
    given = [each.given for each in sources if isinstance(each.given, pb.Images) and each.given.HasField("encoded")]
    if given:
        graphs.offload(call, job, sum(message.ByteSize() for message in given))
    else:
        job()


def _encode(graphs: GraphCalls, call: Call, served: ServedModel, sources: Sequence[Source], done: Done) -> None:
    latents = {
        each.field: tensors.read_latents(each.given, each.field, served.shapes, each.limit_rows)
        for each in sources
        if isinstance(each.given, pb.Tensor)
    }
    pixels = [(each.field, each.given, each.limit_rows) for each in sources if isinstance(each.given, pb.Images)]
    if not pixels:
        done([latents[each.field] for each in sources])
    elif "encode" in served.shaped:
        _run_items(graphs, call, served, pixels, partial(_joined, sources, latents, done))
    else:
        _run_rows(graphs, call, served, pixels, partial(_joined, sources, latents, done))


def _joined(sources: Sequence[Source], latents: dict[str, Latents], done: Done, encoded: dict[str, Latents]) -> None:
    every = latents | encoded
    done([every[each.field] for each in sources])


def _run_rows(
    graphs: GraphCalls,
    call: Call,
    served: ServedModel,
    pixels: Sequence[_Pixels],
    done: Callable[[dict[str, Latents]], None],
) -> None:
    """Encode images of the model's one size: rows of one entry."""
    found = [graphs.rows(call, served, "encode", given, field, limit) for field, given, limit in pixels]
    counts = [count for _, count in found]

    def split(entry: Entry, outputs: Sequence[Array]) -> None:
        del entry
        parts = np.split(outputs[0], np.cumsum(counts)[:-1])
        done({field: part for (field, *_), part in zip(pixels, parts, strict=True)})

    entry = Entry(call, b"".join(rows for rows, _ in found), sum(counts), Each(split))
    entry.intermediate = True
    served.batchers["encode"].submit(entry, time.monotonic())


def _run_items(
    graphs: GraphCalls,
    call: Call,
    served: ServedModel,
    pixels: Sequence[_Pixels],
    done: Callable[[dict[str, Latents]], None],
) -> None:
    """Encode images of free sizes, those of a source of one size."""
    found = [graphs.arrays(call, served, "encode", given, field, limit) for field, given, limit in pixels]
    for (field, *_), items in zip(pixels, found, strict=True):
        if len({item.shape for item in items}) > 1:
            raise InvalidArgumentError(field, "expected images of one size: send one size a request")

    def split(results: list[list[Array]]) -> None:
        left = iter(results)
        latents = [np.stack([next(left)[0] for _ in items]) for items in found]
        done({field: each for (field, *_), each in zip(pixels, latents, strict=True)})

    served.shaped["encode"].submit(call, [item for items in found for item in items], split, intermediate=True)
