"""Score (log-likelihood): importance-weighted bounds, whose samples run through the graph a bounded part at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from numpy.typing import NDArray

from bundle.density import likelihood
from server.batching.gradual import GradualRequest
from server.batching.shaped import ShapedGraph
from server.batching.shaped_batcher import ShapedEntry
from server.calls.call import Call
from server.codec import tensors
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.services.autoencoder.posterior import draw_seed
from server.services.graph_calls import GraphCalls
from server.types import Array

_MAX_INDEX = 2**64


class ScoreCalls:
    """Serves Score."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs

    def score(self, call: Call, request: pb.ScoreRequest) -> None:
        """Log-likelihoods of images."""
        served = self._graphs.model(call, request, "Score")
        most = self._graphs.limits.max_score_rows
        samples = request.samples or likelihood.DEFAULT_SAMPLES
        if not 1 <= samples <= most:
            default = likelihood.DEFAULT_SAMPLES
            offer = f", or 0 for {default}" if default <= most else ""
            got = request.samples or f"0, which means {default}"
            raise InvalidArgumentError("samples", f"expected 1 to {most} samples an image{offer}, got {got}")
        seed = request.seed if request.HasField("seed") else draw_seed()
        job = partial(self._score, call, served, request, samples, seed)
        self._graphs.offload(call, job, request.images.ByteSize())

    def _score(self, call: Call, served: ServedModel, request: pb.ScoreRequest, samples: int, seed: int) -> None:
        graphs, limits, first = self._graphs, self._graphs.limits, request.first_index
        found = graphs.arrays(call, served, "log_weights", request.images, "images", limits.max_request_rows)
        if len(found) * samples > limits.max_score_rows:
            raise InvalidArgumentError(
                "samples",
                f"expected at most {limits.max_score_rows} samples of all images together, got {len(found)} x "
                f"{samples}: ask for fewer, or send several requests",
            )
        if first + len(found) > _MAX_INDEX:
            raise InvalidArgumentError("first_index", f"expected images of indexes below 2^64, got {first}")
        images = np.stack(found)
        if served.model.likelihood.binarised:
            images = likelihood.binarised(images, seed, first)
        noise = partial(_noise, seed, first, served.shapes.latent)
        done = partial(self._answer, call, seed)
        samples_of_all = Samples(call, served.shaped["log_weights"], images, samples, noise, done)
        samples_of_all.start(time.monotonic(), prod(images.shape[:3]), "images")

    def _answer(self, call: Call, seed: int, log_weights: NDArray[np.float32]) -> None:
        self._graphs.offload(call, partial(self._send, call, seed, log_weights))

    def _send(self, call: Call, seed: int, log_weights: NDArray[np.float32]) -> None:
        response = pb.ScoreResponse(seed=seed)
        tensors.fill(response.log_likelihoods, likelihood.bounds(log_weights).astype(np.float32))
        self._graphs.answer(call, response)


class Samples(GradualRequest[int]):
    """Images with so many samples each: rows of the graph, in this order, whose noise is drawn as they are queued."""

    def __init__(
        self,
        call: Call,
        graph: ShapedGraph,
        images: Array,
        samples: int,
        noise: Callable[[int, int, int], Array],
        done: Callable[[NDArray[np.float32]], None],
    ) -> None:
        """Prepare to run the graph.

        Args:
            call: whose images they are.
            graph: of images and noise to log-weights.
            images: (N, H, W, C).
            samples: of each image.
            noise: draws that of an image, of its samples from a first one on, so many.
            done: gets the log-weights (N, samples), once, on any thread.
        """
        self._images, self._samples, self._noise, self._done = images, samples, noise, done
        self._log_weights = np.empty(len(images) * samples, np.float32)
        self._rows_together = graph.batcher.queue.rows_together(images.shape[1:])
        super().__init__(call, graph.batcher, graph.room, len(images) * samples)

    def _entries(self) -> Iterator[tuple[ShapedEntry, int]]:
        for first in range(0, self.count, self._rows_together):
            rows = range(first, min(first + self._rows_together, self.count))
            owners = np.arange(rows.start, rows.stop) // self._samples
            noise = [row for image in range(int(owners[0]), int(owners[-1]) + 1) for row in self._drawn(image, rows)]
            yield self._entry(self._images[owners], noise), first

    def _drawn(self, image: int, rows: range) -> Array:
        """Noise of those samples of an image that are among the rows."""
        start = image * self._samples
        first, stop = max(rows.start - start, 0), min(rows.stop - start, self._samples)
        return self._noise(image, first, stop - first)

    def _keep(self, part: int, outputs: Sequence[Array], *, shared: bool) -> None:
        del shared
        self._log_weights[part : part + len(outputs[0])] = outputs[0]

    def _finish(self) -> None:
        self._done(self._log_weights.reshape(-1, self._samples))


def _noise(seed: int, first_index: int, shape: Sequence[int], image: int, first: int, count: int) -> Array:
    drawn = likelihood.sample_noise(seed, first_index + image, first, count, prod(shape))
    return drawn.reshape(count, *shape)
