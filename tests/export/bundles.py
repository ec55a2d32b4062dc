"""Copies of the committed bundles, changed on purpose but consistent again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from autoencoder.v1.model_pb2 import Model
from onnx import ModelProto, numpy_helper

from bundle import layout
from bundle.golden import Golden

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def copied(name: str, folder: Path) -> Path:
    """A copy of version 1 of a committed model."""
    return Path(shutil.copytree(GOLDEN / name / "1", folder / name / "1"))


def replace_file(folder: Path, path: str, data: bytes) -> None:
    """Writes a file and lists it in model.json with its new hash."""
    model = layout.read_model(folder)
    (folder / path).write_bytes(data)
    files = [layout.describe_file(path, data) if each.path == path else each for each in model.files]
    del model.files[:]
    model.files.extend(files)
    write_model(folder, model)


def change_model(folder: Path, change: Callable[[Model], object]) -> None:
    """Changes model.json."""
    model = layout.read_model(folder)
    change(model)
    write_model(folder, model)


def write_model(folder: Path, model: Model) -> None:
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def change_graph(folder: Path, path: str, change: Callable[[ModelProto], object]) -> None:
    """Changes an ONNX file."""
    model = onnx.load(folder / path)
    change(model)
    replace_file(folder, path, model.SerializeToString())


def change_golden(folder: Path, change: Callable[[Golden], Golden]) -> None:
    """Changes the golden vectors."""
    golden = Golden.from_bytes((folder / layout.GOLDEN_FILE).read_bytes())
    replace_file(folder, layout.GOLDEN_FILE, change(golden).to_bytes())


def scale_weight(name: str, factor: float) -> Callable[[ModelProto], None]:
    """Multiplies an initialiser."""

    def apply(model: ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * tensor_type(tensor, factor), name))

    return apply


def tensor_type(tensor: onnx.TensorProto, value: float) -> object:
    return numpy_helper.to_array(tensor).dtype.type(value)
