"""One call whose images go through a server in several requests: what each asks, and the answer to all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from math import fsum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import png
from autoencoder.v1.model_pb2 import DATA_TYPE_UINT8, Signature
from autoencoder.v1.shapes import Shapes

from hourglass_client import answers
from hourglass_client.bands.sources import Source, tensor
from hourglass_client.errors import invalid
from hourglass_client.tensors import to_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoencoder.v1.model_pb2 import Model
    from autoencoder.v1.shapes import Size
    from numpy.typing import NDArray

    from hourglass_client.bands.plan import Window

FORMATS: dict[int, tuple[pb.ImageFormat, int]] = {
    pb.IMAGE_FORMAT_UINT8: (pb.IMAGE_FORMAT_UINT8, 1),
    pb.IMAGE_FORMAT_PNG: (pb.IMAGE_FORMAT_UINT8, 1),
    pb.IMAGE_FORMAT_UINT16: (pb.IMAGE_FORMAT_UINT16, 2),
    pb.IMAGE_FORMAT_PNG16: (pb.IMAGE_FORMAT_UINT16, 2),
    pb.IMAGE_FORMAT_FLOAT32: (pb.IMAGE_FORMAT_FLOAT32, 4),
    pb.IMAGE_FORMAT_NONE: (pb.IMAGE_FORMAT_NONE, 0),
}
"""As what bands come back for each format of the whole, and bytes of a channel then."""
FILE_FORMATS = {pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_PNG16}
_SIZED_FORMATS = FILE_FORMATS | {pb.IMAGE_FORMAT_NONE}


class Part(NamedTuple):
    """What one request holds: a whole image, or a band of it."""

    item: int
    window: Window | None = None


Cut: TypeAlias = Callable[[Source], Iterator["Window | None"]]
"""Of what is divided, its bands."""


class Job(ABC):
    """A call in several requests, and their answers, which come in the order of the requests."""

    signature: ClassVar[str]
    """The graph that runs."""

    def __init__(self, request: Any, model: Model, sources: Sequence[Source], cut: Cut) -> None:  # noqa: ANN401 (of any method)
        self.shapes = Shapes.of(model)
        self.version = model.version
        self._request = request
        self._sources = sources
        self._cut = cut
        self._parts: list[Part] = []
        self._results: list[list[NDArray[Any]]] = [[] for _ in sources]
        self._infos: list[answers.ServingInfo] = []
        self._graph: Signature = signature_of(model, self.signature)

    def prepare(self) -> int:
        """Decode the files that are cut; return how many requests there will be."""
        keep = self._graph.inputs[0].data_type != DATA_TYPE_UINT8
        for source in self._sources:
            if source.divided:
                source.decode(self.shapes.image[2], keep_sixteen_bits=keep)
        self._parts = [Part(item, each) for item, source in enumerate(self._sources) for each in self._windows(source)]
        return len(self._parts)

    def _windows(self, source: Source) -> Iterator[Window | None]:
        return self._cut(source) if source.divided else iter([None])

    def requests(self) -> Iterator[Any]:
        """The requests, each made when it is taken; the version is that of the model that they were planned for."""
        for part in self._parts:
            source = self._sources[part.item]
            pixels = source.pixels
            if part.window is not None and pixels is not None:
                pixels = part.window.cut(pixels)
                source = Source(pixels.shape[:2], pixels)
            made = self._made(part, source)
            made.model_name, made.model_version = self._request.model_name, self.version
            yield made

    def take(self, response: Any) -> None:  # noqa: ANN401 (of any method)
        """Take the next answer."""
        part = self._parts[len(self._infos)]
        self._infos.append(answers.ServingInfo.from_message(response.info))
        outputs = self._read(part, response)
        if part.window is None:
            self._results[part.item] = outputs
            return
        if not self._results[part.item]:
            size = self._sources[part.item].size
            self._results[part.item] = [np.empty(self._shape(size), output.dtype) for output in outputs]
        up, down = self._ratio()
        for output, whole in zip(outputs, self._results[part.item], strict=True):
            part.window.place(part.window.inside(output, up, down), whole, up, down)

    @abstractmethod
    def answer(self) -> answers.Answer:
        """The answer, once all have been taken."""

    @abstractmethod
    def _made(self, part: Part, source: Source) -> Any:  # noqa: ANN401 (of any method)
        """A request for a part."""

    @abstractmethod
    def _read(self, part: Part, response: Any) -> list[NDArray[Any]]:  # noqa: ANN401
        """Outputs for one image or band, (h, w, C) each."""

    def _shape(self, size: Size) -> tuple[int, ...]:
        """Shape of the outputs for a whole image."""
        return (*size, self.shapes.image[2])

    def _ratio(self) -> tuple[int, int]:
        """Output cells for each of the input, as a fraction."""
        return 1, 1

    def _info(self) -> answers.ServingInfo:
        infos = self._infos
        last = infos[-1]
        return answers.ServingInfo(
            last.model_name,
            last.model_version,
            sum(info.queue_microseconds for info in infos),
            sum(info.run_microseconds for info in infos),
            max(info.batch_size for info in infos),
            sum(max(info.tiles, part.window is not None) for info, part in zip(infos, self._parts, strict=True)),
            all(info.exact for info in infos) and self._exact(),
        )

    def _exact(self) -> bool:
        return self._graph.tiling.exact or all(part.window is None for part in self._parts)

    def _pictures(self, image_format: int) -> tuple[NDArray[Any], tuple[bytes, ...]]:
        images = [image for outputs in self._results for image in outputs]
        if image_format == pb.IMAGE_FORMAT_NONE:
            return np.empty((0, 0, 0, 0), np.uint8), ()
        if image_format in FILE_FORMATS:
            return np.empty((0, 0, 0, 0), np.uint8), tuple(png.encode(image) for image in images)
        return together(images), ()


class DenoiseJob(Job):
    """Denoise."""

    signature = "denoise"

    def _made(self, part: Part, source: Source) -> pb.DenoiseRequest:
        levels = self._request.noise_levels
        own = levels if len(levels) < 2 else levels[part.item : part.item + 1]  # noqa: PLR2004 (one for all)
        form = FORMATS[self._request.image_format][0]
        return pb.DenoiseRequest(images=source.message(), image_format=form, noise_levels=own)

    def _read(self, part: Part, response: pb.DenoiseResponse) -> list[NDArray[Any]]:
        del part
        return [to_array(response.images.tensor)[0]] if response.images.HasField("tensor") else []

    def answer(self) -> answers.Denoised:
        """The clean images."""
        return answers.Denoised(*self._pictures(self._request.image_format), self._info())


class ReconstructJob(Job):
    """Reconstruct: bands come back as floats, from which the errors are summed up as the server does it."""

    signature = "reconstruct"

    def __init__(self, request: Any, model: Model, sources: Sequence[Source], cut: Cut) -> None:  # noqa: ANN401 (as above)
        super().__init__(request, model, sources, cut)
        self._errors: list[list[float]] = [[] for _ in sources]

    def _made(self, part: Part, source: Source) -> pb.ReconstructRequest:
        del part
        return pb.ReconstructRequest(images=source.message(), image_format=pb.IMAGE_FORMAT_FLOAT32)

    def _read(self, part: Part, response: pb.ReconstructResponse) -> list[NDArray[Any]]:
        image, source = to_array(response.images.tensor)[0], self._sources[part.item]
        if part.window is None or source.pixels is None:
            self._errors[part.item].append(float(to_array(response.squared_errors)[0]))
        else:
            kept = part.window.kept(source.pixels)
            scale = np.float64(np.iinfo(kept.dtype).max if kept.dtype.kind == "u" else 1.0)
            difference = part.window.inside(image).astype(np.float64) - kept / scale
            size = source.size[0] * source.size[1] * self.shapes.image[2]
            self._errors[part.item].append(float(np.square(difference).sum()) / size)
        form = self._request.image_format
        return [] if form == pb.IMAGE_FORMAT_NONE else [rounded(image, form)]

    def answer(self) -> answers.Reconstructed:
        """The images, and the error of each."""
        errors = np.array([fsum(each) for each in self._errors], np.float32)
        return answers.Reconstructed(*self._pictures(self._request.image_format), errors, self._info())


class EncodeJob(Job):
    """Encode to spatial latents."""

    signature = "encode"

    def _made(self, part: Part, source: Source) -> pb.EncodeRequest:
        del part
        form = self._request.latent_format
        return pb.EncodeRequest(images=source.message(), posterior=pb.POSTERIOR_MEAN, latent_format=form)

    def _read(self, part: Part, response: pb.EncodeResponse) -> list[NDArray[Any]]:
        del part
        found = [response.latents, *([response.log_variances] if response.HasField("log_variances") else [])]
        return [to_array(each)[0] for each in found]

    def _shape(self, size: Size) -> tuple[int, ...]:
        return self.shapes.latents_of(*size)

    def _ratio(self) -> tuple[int, int]:
        return 1, self.shapes.downsampling

    def answer(self) -> answers.Encoded:
        """The latents."""
        columns = [together(list(column)) for column in zip(*self._results, strict=True)]
        return answers.Encoded(columns[0], columns[1] if len(columns) > 1 else None, None, self._info())


class DecodeJob(Job):
    """Decode of spatial latents: windows count their cells."""

    signature = "decode"

    def _made(self, part: Part, source: Source) -> pb.DecodeRequest:
        del part
        latents = None if source.pixels is None else tensor(source.pixels)
        return pb.DecodeRequest(latents=latents, image_format=FORMATS[self._request.image_format][0])

    def _read(self, part: Part, response: pb.DecodeResponse) -> list[NDArray[Any]]:
        del part
        return [to_array(response.images.tensor)[0]] if response.images.HasField("tensor") else []

    def _shape(self, size: Size) -> tuple[int, ...]:
        height, width = (side * self.shapes.downsampling for side in size)
        return height, width, self.shapes.image[2]

    def _ratio(self) -> tuple[int, int]:
        return self.shapes.downsampling, 1

    def answer(self) -> answers.Decoded:
        """The images, cropped as asked."""
        request = self._request
        height, width = (getattr(request, axis) if request.HasField(axis) else None for axis in ("height", "width"))
        self._results = [[image[:height, :width] for image in outputs] for outputs in self._results]
        return answers.Decoded(*self._pictures(request.image_format), self._info())


def together(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(N, …) of arrays of one shape; a view of a single one."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)


def rounded(image: NDArray[np.float32], image_format: int) -> NDArray[Any]:
    """Values in 0…1 to the bits of a format."""
    bits = 8 * FORMATS[image_format][1]
    if bits > 16:  # noqa: PLR2004 (floats)
        return image
    whole = np.dtype(f"u{bits // 8}")
    return np.rint(np.clip(image, 0, 1) * np.float32(np.iinfo(whole).max)).astype(whole)


def check_one_size(sources: Sequence[Source], image_format: int) -> None:
    """Refuse images of several sizes in one tensor.

    Raises:
        InvalidArgumentError: they do not leave as files.
    """
    sizes = sorted({source.size for source in sources})
    if len(sizes) > 1 and image_format not in _SIZED_FORMATS:
        (height, width), (other_height, other_width) = sizes[0], sizes[-1]
        raise invalid(
            "images",
            f"expected images of one size, got {height} x {width} to {other_height} x {other_width}: ask for files "
            "(png or png16), or send one size a request",
        )


def signature_of(model: Model, name: str) -> Signature:
    """The graph of this name; an empty one if the model has none."""
    return next((each for each in model.signatures if each.name == name), Signature())
