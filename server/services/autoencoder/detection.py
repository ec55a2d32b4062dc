"""Detect (anomaly detection): scores of images, maps, and the regions where these are above a threshold."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import regions
from autoencoder.v1.anomaly_maps import drawn, scores_of
from numpy.typing import NDArray

from server.batching.entry import Each, Entry
from server.calls.call import Call
from server.codec import images, tensors
from server.errors import InvalidArgumentError
from server.models.table import ServedModel
from server.parse_cache import Ready
from server.services.autoencoder.thresholds import Thresholds
from server.services.graph_calls import GraphCalls
from server.types import Array

# Reducing and drawing so many pixels takes about as long as a small batch; more goes to another thread, and so do
# regions, which take that long for the smallest map.
_HEAVY_PIXELS = 4096


class DetectCalls:
    """Serves Detect."""

    def __init__(self, graphs: GraphCalls) -> None:
        self._graphs = graphs

    def detect(self, call: Call, request: pb.DetectRequest) -> Ready | None:
        """Anomalies of images."""
        served = self._graphs.model(call, request, "Detect")
        images.check_format(request.map_format, "map_format")
        answer = _Answer(self._graphs, Thresholds.of(request, served), request.map_format)
        if "detect" not in served.shaped:
            return self._graphs.prepare_images(call, served, request, "detect", Each(answer.with_scores))
        run = partial(self._run, call, served, request.images, answer)
        if request.images.HasField("encoded"):
            self._graphs.offload(call, run, request.images.ByteSize())
        else:
            run()
        return None

    def _run(self, call: Call, served: ServedModel, message: pb.Images, answer: "_Answer") -> None:
        """Run the graph on images of any size."""
        graphs = self._graphs
        items = graphs.arrays(call, served, "detect", message, "images", graphs.limits.max_request_rows)
        sizes = {(item.shape[0], item.shape[1]) for item in items}
        answer.thresholds.check_sizes(sizes)
        if len(sizes) > 1 and not answer.sized:
            advice = "ask for IMAGE_FORMAT_PNG or IMAGE_FORMAT_PNG16, or send one size a request"
            raise InvalidArgumentError("images", f"expected images of one size: {advice}")
        served.shaped["detect"].submit(call, items, partial(answer.with_maps, call, served))


class _Answer:
    """How requests with the same thresholds and format of maps are answered."""

    def __init__(self, graphs: GraphCalls, thresholds: Thresholds, map_format: int) -> None:
        self.thresholds = thresholds
        self._graphs = graphs
        # As the proto file says, other than for images.
        self._format = map_format or pb.IMAGE_FORMAT_NONE

    @property
    def sized(self) -> bool:
        """Whether maps may differ in size."""
        return self._format in images.SIZED_FORMATS

    def with_scores(self, entry: Entry, outputs: Sequence[Array]) -> None:
        """Answer with outputs of a graph of one size: scores (N,) and maps (N, H, W, 1)."""
        scores, maps = outputs
        quick = maps.size <= _HEAVY_PIXELS and self._format not in images.FILE_FORMATS
        job = partial(self._send, entry.call, scores, maps)
        if quick and not maps.max() > np.float32(self.thresholds.map):
            job()
        else:
            self._graphs.offload(entry.call, job, maps.nbytes)

    def with_maps(self, call: Call, served: ServedModel, results: list[list[Array]]) -> None:
        """Answer with outputs of a graph of any size: a map (H, W, 1) of each image."""
        maps = [outputs[0] for outputs in results]
        self._graphs.offload(call, partial(self._score, call, served, maps), sum(each.nbytes for each in maps))

    def _score(self, call: Call, served: ServedModel, maps: Sequence[Array]) -> None:
        scores = scores_of(maps, served.model.detection.score)
        served.drift.detections.observe(scores, [each.shape[:2] for each in maps])
        self._send(call, scores, maps)

    def _send(self, call: Call, scores: NDArray[np.float32], maps: images.ManyImages) -> None:
        chosen = self.thresholds
        response = pb.DetectResponse(
            anomalous=(scores > np.float32(chosen.score)).tolist(),
            threshold=chosen.score,
            map_threshold=chosen.map,
            regions=_regions(maps, chosen.map, call),
        )
        tensors.fill(response.scores, scores)
        if self._format != pb.IMAGE_FORMAT_NONE:
            if self._format != pb.IMAGE_FORMAT_FLOAT32:
                maps = [drawn(each, chosen.map_low, chosen.map) for each in maps]
            images.fill(response.maps, maps, self._format)
        self._graphs.answer(call, response)


def _regions(maps: images.ManyImages, threshold: float, call: Call) -> list[pb.Region]:
    if isinstance(maps, np.ndarray):
        return regions.find(maps[..., 0], threshold, call.check_wanted)
    found: list[pb.Region] = []
    for index, each in enumerate(maps):
        for region in regions.find(each[None, ..., 0], threshold, call.check_wanted):
            region.image = index
            found.append(region)
    return found
