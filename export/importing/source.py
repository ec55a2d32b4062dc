"""Reads ONNX files made elsewhere: their signatures, weights in a second file (external data), sizes left open."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto, ValueInfoProto

from bundle.errors import BundleError
from bundle.graph import read_graph
from bundle.graph_memory.estimate import estimate
from bundle.graph_memory.node import Shape
from bundle.graph_proto import parse
from bundle.layout import read_file
from export.errors import InputError
from export.importing.opset import converted
from export.importing.ports import ImageShape

_STEMS = {
    "encode": "encode",
    "encoder": "encode",
    "decode": "decode",
    "decoder": "decode",
    "reconstruct": "reconstruct",
    "autoencoder": "reconstruct",
    "denoise": "denoise",
    "denoiser": "denoise",
    "classify": "classify",
    "classifier": "classify",
    "detect": "detect",
    "detector": "detect",
}
# Protobuf's own limit.
_MAX_BYTES = 2**31 - 1
# Heights and widths that show which axes of an output follow them; multiples of what any network divides them by.
_TRIALS = ((192, 320), (256, 448))
# Tells the batch apart from an axis of one.
_ROWS = 2


@dataclass(frozen=True)
class SourceFile:
    """A file made elsewhere, for one signature."""

    signature: str
    name: str
    sha256: Mapping[str, str]
    """Of the file, and of the one that holds its weights, by what provenance calls them."""
    model: ModelProto

    @classmethod
    def read(cls, argument: str, images: ImageShape | None = None) -> "SourceFile":
        """Read FILE, which is named after its signature, or SIGNATURE=FILE; `images` fixes sizes that it leaves open.

        Raises:
            InputError: no such file, not ONNX, no known signature, or weights that cannot be read.
        """
        signature, file = _named(argument)
        try:
            data = read_file(file, _MAX_BYTES)
            parse(data)
            model = onnx.load_model_from_string(data)
            outside = _take_in_weights(model, file.parent)
            if foreign := read_graph(model.SerializeToString() if outside else data).foreign:
                raise InputError(f"{file}: {'; '.join(foreign)}")
            model = converted(model, file)
        except BundleError as error:
            raise InputError(str(error) if str(error).startswith(str(file)) else f"{file}: {error}") from error
        except (DecodeError, EncodeError, ValueError) as error:
            raise InputError(f"{file}: expected an ONNX file of at most {_MAX_BYTES} bytes: {error}") from error
        digests = {"source": hashlib.sha256(data).hexdigest()} | outside
        _fix_sizes(model, signature, images)
        return cls(signature, file.name, digests, model)


def _named(argument: str) -> tuple[str, Path]:
    """What stands before the first = is a signature if it is a known word; a path may hold = too."""
    word, equals, path = argument.partition("=")
    if equals and word.lower() in _STEMS:
        return _STEMS[word.lower()], Path(path)
    file = Path(argument)
    if file.stem.lower() not in _STEMS:
        raise InputError(
            f"{argument}: expected a file named after what it does, or encode=FILE; known are {', '.join(_STEMS)}"
        )
    return _STEMS[file.stem.lower()], file


def _take_in_weights(model: ModelProto, folder: Path) -> dict[str, str]:
    """Move weights from files beside the model into it, as torch.onnx.export leaves them; digest of those files.

    Raises:
        BundleError: a file is not beside the model, cannot be read or is too short.
    """
    contents: dict[str, bytes] = {}
    try:
        for tensor in _tensors(model):
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = _outside(tensor, folder, contents)
                tensor.ClearField("data_location")
                del tensor.external_data[:]
    except (BundleError, ValueError) as error:
        raise BundleError(
            f"its weights are in another file: {error}; keep that file beside it, or export with external_data=False"
        ) from error
    joined = hashlib.sha256(b"".join(contents[location] for location in sorted(contents)))
    return {"weights": joined.hexdigest()} if contents else {}


def _outside(tensor: TensorProto, folder: Path, contents: dict[str, bytes]) -> bytes:
    """A tensor's bytes in another file; `contents` keeps what was read."""
    about = {each.key: each.value for each in tensor.external_data}
    location = about.get("location", "")
    if location not in contents:
        contents[location] = read_file(_beside(folder, location), _MAX_BYTES)
    data = contents[location]
    start = int(about.get("offset", 0))
    end = start + int(about.get("length", len(data) - start))
    if not 0 <= start <= end <= len(data):
        raise ValueError(f"{location[:80]}: expected {end} bytes, got {len(data)}")
    return data[start:end]


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)


def _beside(folder: Path, location: str) -> Path:
    """A file in the model's folder, links followed: a file from elsewhere must not name others of this machine."""
    parts = PurePosixPath(location).parts
    file = (folder / location).resolve()
    if not parts or location.startswith("/") or ".." in parts or not file.is_relative_to(folder.resolve()):
        raise ValueError(f"expected a file in its folder, got {location[:80]!r}")
    return file


def _fix_sizes(model: ModelProto, signature: str, images: ImageShape | None) -> None:
    """Fill in sizes that the file leaves open: those of images as given, those of outputs by shape inference."""
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    if images is not None and signature != "decode":
        for value in inputs:
            _fill(value, images)
    sizes = {each.name: _sizes(each) for each in inputs}
    if all(None not in each for each in sizes.values()):
        known = {name: (_ROWS, *(size for size in each if size)) for name, each in sizes.items()}
        _fix_outputs(model, _inferred(model, known))
    elif images is None:
        first, second = (_inferred(model, _sized(sizes, *trial)) for trial in _TRIALS)
        same = {
            name: tuple(a if a == b else 0 for a, b in zip(first[name], second.get(name, ()), strict=False))
            for name in first
        }
        _fix_outputs(model, same)
    if images is not None and signature in {"decode", "reconstruct", "denoise"} and model.graph.output:
        _fill(model.graph.output[0], images)
    if images is not None and signature == "detect":
        for value in model.graph.output:
            _fill(value, (*images[:2], 1))


def _sized(sizes: Mapping[str, Sequence[int | None]], height: int, width: int) -> dict[str, Shape]:
    """Shapes of inputs with their two free axes of these sizes."""
    found: dict[str, Shape] = {}
    for name, each in sizes.items():
        free = iter((height, width))
        found[name] = (_ROWS, *(size or next(free, 1) for size in each))
    return found


def _inferred(model: ModelProto, inputs: Mapping[str, Shape]) -> Mapping[str, Shape]:
    try:
        return estimate(parse(model.SerializeToString()).graph, inputs).outputs
    except BundleError:
        # The checks that follow say what is wrong with the graph.
        return {}


def _fix_outputs(model: ModelProto, outputs: Mapping[str, Shape]) -> None:
    """Fill in sizes of outputs that the file leaves open; 0 is one that is not known."""
    for value in model.graph.output:
        found, tensor = outputs.get(value.name, ()), value.type.tensor_type
        if not tensor.shape.dim and found[:1] == (_ROWS,):
            tensor.shape.dim.add(dim_param="batch")
            for _ in found[1:]:
                tensor.shape.dim.add()
        if len(found) == len(tensor.shape.dim):
            for dim, size in zip(tensor.shape.dim[1:], found[1:], strict=True):
                dim.dim_value = dim.dim_value if dim.dim_value > 0 else size


def _fill(value: ValueInfoProto, images: ImageShape) -> None:
    """Sizes of an image, channels first where both fit."""
    height, width, channels = images
    sizes = _sizes(value)
    for layout in ((channels, height, width), (height, width, channels), (height, width)):
        fits = len(layout) == len(sizes) and all(a in {None, b} for a, b in zip(sizes, layout, strict=True))
        if fits and (len(layout) > 2 or channels == 1):  # noqa: PLR2004 (rank of a grey image)
            for dim, size in zip(value.type.tensor_type.shape.dim[1:], layout, strict=True):
                dim.dim_value = size
            return


def _sizes(value: ValueInfoProto) -> Sequence[int | None]:
    """Sizes after the batch; None where it is free, which some tools write as -1."""
    return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim[1:]]
