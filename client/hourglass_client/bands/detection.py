"""Detect in several requests: regions and scores are of the whole map, as the server finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import regions
from autoencoder.v1.anomaly_maps import drawn, scores_of

from hourglass_client import answers
from hourglass_client.bands.jobs import Job, Part, rounded
from hourglass_client.errors import invalid
from hourglass_client.tensors import to_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoencoder.v1.model_pb2 import Model
    from autoencoder.v1.shapes import Size
    from numpy.typing import NDArray

    from hourglass_client.bands.jobs import Cut
    from hourglass_client.bands.sources import Source


class DetectJob(Job):
    """Detect: parts come back as maps of floats."""

    signature = "detect"

    def __init__(self, request: Any, model: Model, sources: Sequence[Source], cut: Cut) -> None:  # noqa: ANN401 (as in `Job`)
        super().__init__(request, model, sources, cut)
        self._detection = model.detection
        self._thresholds = (0.0, 0.0)
        self._check()

    def _check(self) -> None:
        """Refuse what the server refuses of the whole, and cannot see in the parts."""
        request, detection = self._request, self._detection
        divided = next((source for source in self._sources if source.divided), None)
        if request.HasField("false_alarm_rate") and divided is not None:
            size = "{} x {}".format(*divided.size)
            calibrated = detection.calibrated_height, detection.calibrated_width
            known = "{} x {}".format(*calibrated) if all(calibrated) else "the calibrated size, which is not known,"
            raise invalid(
                "false_alarm_rate",
                f"expected images of {known} that fit in one request, for which rates are calibrated, got {size}: send "
                "threshold instead, or images of that size",
            )
        if request.HasField("map_threshold") and self._is_drawn() and request.map_threshold <= detection.map_low:
            name = pb.ImageFormat.Name(request.map_format)
            expected = f"expected more than {detection.map_low:g}, which {name} draws black"
            raise invalid(
                "map_threshold", f"{expected}, got {request.map_threshold:g}: or ask for IMAGE_FORMAT_FLOAT32"
            )

    def _is_drawn(self) -> bool:
        """Whether maps leave as images rather than as they are."""
        return self._request.map_format not in {pb.IMAGE_FORMAT_NONE, pb.IMAGE_FORMAT_FLOAT32}

    def _made(self, part: Part, source: Source) -> pb.DetectRequest:
        del part
        made = pb.DetectRequest(map_format=pb.IMAGE_FORMAT_FLOAT32, images=source.message())
        for field in ("threshold", "map_threshold", "false_alarm_rate"):
            if self._request.HasField(field):
                setattr(made, field, getattr(self._request, field))
        return made

    def _read(self, part: Part, response: pb.DetectResponse) -> list[NDArray[Any]]:
        del part
        self._thresholds = response.threshold, response.map_threshold
        return [to_array(response.maps.tensor)[0]]

    def _shape(self, size: Size) -> tuple[int, ...]:
        return (*size, 1)

    def answer(self) -> answers.Detected:
        """Scores, regions and maps of the whole images."""
        threshold, map_threshold = self._thresholds
        maps = [image for (image,) in self._results]
        scores = scores_of(maps, self._detection.score)
        found = [
            answers.Region(index, each.top, each.left, each.height, each.width, each.score)
            for index, image in enumerate(maps)
            for each in regions.find(image[None, ..., 0], map_threshold)
        ]
        if self._is_drawn():
            low, form = self._detection.map_low, self._request.map_format
            self._results = [[rounded(drawn(each, low, map_threshold), form)] for each in maps]
        shown = self._pictures(self._request.map_format)
        anomalous = scores > np.float32(threshold)
        return answers.Detected(scores, anomalous, threshold, map_threshold, tuple(found), *shown, self._info())
