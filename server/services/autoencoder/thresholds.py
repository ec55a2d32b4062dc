"""Thresholds of Detect: the request's own, those of the false-alarm rate that it names, or the calibrated default."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.model_pb2 import Detection
from autoencoder.v1.shapes import Size

from bundle.detection import index_of
from server.errors import InvalidArgumentError
from server.model_version import ModelVersion

# In which the values of maps leave as they are, or not at all.
_PLAIN_FORMATS = frozenset({pb.IMAGE_FORMAT_UNSPECIFIED, pb.IMAGE_FORMAT_NONE, pb.IMAGE_FORMAT_FLOAT32})


@dataclass(frozen=True)
class Thresholds:
    """What scores and maps are compared with, all of it float32."""

    score: float
    map: float
    map_low: float
    """What is drawn black."""
    promised_for: Size | None
    """Size of the images that a requested rate holds for, if one was requested."""

    @classmethod
    def of(cls, request: pb.DetectRequest, version: ModelVersion) -> "Thresholds":
        """Choose those of a request.

        Raises:
            InvalidArgumentError: not finite, both a threshold and a rate, a rate beyond what the calibration can tell,
                or a threshold of maps that cannot be drawn.
        """
        detection = version.model.detection
        for field in ("threshold", "map_threshold"):
            if not math.isfinite(value := getattr(request, field)):
                raise InvalidArgumentError(field, f"expected a finite number, got {value:g}")
        asked = request.HasField("false_alarm_rate")
        if asked and request.HasField("threshold"):
            raise InvalidArgumentError("false_alarm_rate", "expected either threshold or false_alarm_rate, got both")
        index = _index(detection, request.false_alarm_rate if asked else detection.default_rate)
        score = request.threshold if request.HasField("threshold") else detection.thresholds[index]
        level = request.map_threshold if request.HasField("map_threshold") else detection.map_thresholds[index]
        if request.map_format not in _PLAIN_FORMATS and level <= detection.map_low:
            name = pb.ImageFormat.Name(request.map_format)
            expected = f"expected more than {detection.map_low:g}, which {name} draws black"
            raise InvalidArgumentError("map_threshold", f"{expected}, got {level:g}: or ask for IMAGE_FORMAT_FLOAT32")
        size = (detection.calibrated_height, detection.calibrated_width)
        return cls(score, level, detection.map_low, size if asked and version.shapes.free else None)

    def check_sizes(self, sizes: Iterable[Size]) -> None:
        """Refuse a rate for images of another size: a maximum does not transfer.

        Raises:
            InvalidArgumentError: says for which size it is known.
        """
        promised = self.promised_for
        if promised is None:
            return
        for height, width in sizes:
            if (height, width) != promised:
                known = "{} x {}".format(*promised) if all(promised) else "no size that is known"
                raise InvalidArgumentError(
                    "false_alarm_rate",
                    f"expected images of the size that rates are calibrated for, {known}, got {height} x {width}: "
                    "send threshold instead",
                )


def _index(detection: Detection, rate: float) -> int:
    """Index of a rate, or else of the next lower one."""
    index = index_of(detection, rate) if 0 < rate <= 1 else None
    if index is None:
        images = f" on {detection.calibrated_on} images" if detection.calibrated_on else ""
        raise InvalidArgumentError(
            "false_alarm_rate",
            f"expected a rate from {detection.rates[0]:g}, the lowest that the calibration{images} can tell, to 1, "
            f"got {rate:g}",
        )
    return index
