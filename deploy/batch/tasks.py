"""Tasks of a job: the request that each makes of images, and the columns that each makes of the answer."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1.shapes import DTYPES
from numpy.typing import NDArray

from deploy.batch.options import Options
from server.model_version import ModelVersion
from server.services.autoencoder.thresholds import Thresholds

Row: TypeAlias = dict[str, Any]
_REGION = pa.struct([*((name, pa.int32()) for name in ("top", "left", "height", "width")), ("score", pa.float32())])


class Task(Protocol):
    """One kind of job."""

    method: str
    """The RPC that it is."""
    columns: Sequence[pa.Field]
    one_size: bool
    """Whether the images of a request must have one size."""

    @abstractmethod
    def request(self, files: Iterable[bytes]) -> Any:  # noqa: ANN401 (the message of the method)
        """Make the request with image files."""

    @abstractmethod
    def rows(self, payload: bytes) -> list[Row]:
        """Make a row for each image of a serialised response."""


class Encode(Task):
    """Images to latents: the mean, where there is a posterior."""

    method = "Encode"

    def __init__(self, options: Options, version: ModelVersion) -> None:
        self._resize = options.resize
        self.one_size = version.shapes.free
        self.columns = [pa.field("latents", pa.list_(pa.float32(), -1 if self.one_size else version.shapes.numbers))]
        if len(version.shapes.latent) > 1 or self.one_size:
            self.columns.append(pa.field("latent_shape", pa.list_(pa.int32())))

    def request(self, files: Iterable[bytes]) -> pb.EncodeRequest:
        """Make the request with image files."""
        return pb.EncodeRequest(images=_images(files, resize=self._resize))

    def rows(self, payload: bytes) -> list[Row]:
        """Make a row for each image."""
        latents = _array(pb.EncodeResponse.FromString(payload).latents)
        shape = list(latents.shape[1:])
        return [{"latents": each.ravel(), "latent_shape": shape} for each in latents]


class Denoise(Task):
    """Noisy images to clean ones, as PNG."""

    method = "Denoise"
    one_size = False
    columns = (pa.field("image", pa.binary()),)

    def __init__(self, options: Options, version: ModelVersion) -> None:
        self._resize = options.resize
        self._levels = [] if options.noise_level is None else [options.noise_level]
        version.noise_levels(self._levels, 1)

    def request(self, files: Iterable[bytes]) -> pb.DenoiseRequest:
        """Make the request with image files."""
        images = _images(files, resize=self._resize)
        return pb.DenoiseRequest(images=images, noise_levels=self._levels, image_format=pb.IMAGE_FORMAT_PNG)

    def rows(self, payload: bytes) -> list[Row]:
        """Make a row for each image."""
        return [{"image": file} for file in pb.DenoiseResponse.FromString(payload).images.encoded.files]


class Reconstruct(Task):
    """Images through the bottleneck and back, as PNG, with the error of each."""

    method = "Reconstruct"
    one_size = False
    columns = (pa.field("image", pa.binary()), pa.field("squared_error", pa.float32()))

    def __init__(self, options: Options, version: ModelVersion) -> None:
        del version
        self._resize = options.resize

    def request(self, files: Iterable[bytes]) -> pb.ReconstructRequest:
        """Make the request with image files."""
        return pb.ReconstructRequest(images=_images(files, resize=self._resize), image_format=pb.IMAGE_FORMAT_PNG)

    def rows(self, payload: bytes) -> list[Row]:
        """Make a row for each image."""
        response = pb.ReconstructResponse.FromString(payload)
        errors = _array(response.squared_errors)
        pairs = zip(response.images.encoded.files, errors, strict=True)
        return [{"image": file, "squared_error": error} for file, error in pairs]


class Detect(Task):
    """Anomaly scores of images, and the regions of each above the threshold of maps."""

    method = "Detect"
    one_size = False
    columns = (
        pa.field("score", pa.float32()),
        pa.field("anomalous", pa.bool_()),
        pa.field("threshold", pa.float32()),
        pa.field("regions", pa.list_(_REGION)),
    )

    def __init__(self, options: Options, version: ModelVersion) -> None:
        self._resize = options.resize
        names = ("false_alarm_rate", "threshold", "map_threshold")
        self._given = {name: value for name in names if (value := getattr(options, name)) is not None}
        Thresholds.of(self.request([]), version)

    def request(self, files: Iterable[bytes]) -> pb.DetectRequest:
        """Make the request with image files."""
        return pb.DetectRequest(images=_images(files, resize=self._resize), **self._given)

    def rows(self, payload: bytes) -> list[Row]:
        """Make a row for each image."""
        response = pb.DetectResponse.FromString(payload)
        pairs = zip(_array(response.scores), response.anomalous, strict=True)
        rows: list[Row] = [
            {"score": score, "anomalous": anomalous, "threshold": response.threshold, "regions": []}
            for score, anomalous in pairs
        ]
        for each in response.regions:
            region = {name: getattr(each, name) for name in ("top", "left", "height", "width", "score")}
            rows[each.image]["regions"].append(region)
        return rows


_TASKS: dict[str, Callable[[Options, ModelVersion], Task]] = {
    "encode": Encode,
    "denoise": Denoise,
    "reconstruct": Reconstruct,
    "detect": Detect,
}


def task_of(options: Options, version: ModelVersion) -> Task:
    """Make the task that the options name.

    Raises:
        ServingError: the model does not serve it, or not with these options.
    """
    version.check(options.task.capitalize())
    return _TASKS[options.task](options, version)


def _images(files: Iterable[bytes], *, resize: bool) -> pb.Images:
    return pb.Images(encoded=pb.EncodedImages(files=files, resize=resize))


def _array(message: pb.Tensor) -> NDArray[Any]:
    return np.frombuffer(message.data, DTYPES[message.data_type]).reshape(tuple(message.shape))
