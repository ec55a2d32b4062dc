"""Converts graphs of opsets that are older than those served, by onnx's own converter."""

from pathlib import Path

import onnx
import onnx.version_converter
from onnx import ModelProto

from bundle.errors import BundleError
from bundle.graph import FOREIGN_OPSETS
from export.errors import InputError
from export.gate.sandbox import CrashError, Sandbox


def converted(model: ModelProto, file: Path) -> ModelProto:
    """The model in the oldest opset that is served, where it has an older one.

    Raises:
        InputError: onnx's converter refuses it.
    """
    opset = next((each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}), 0)
    if not 0 < opset < FOREIGN_OPSETS[0]:
        return model
    advice = f"export with opset {FOREIGN_OPSETS[0]} to {FOREIGN_OPSETS[-1]}"
    try:
        with Sandbox() as sandbox:
            return onnx.load_model_from_string(sandbox.run(in_opset, model.SerializeToString(), FOREIGN_OPSETS[0]))
    except CrashError as error:
        raise InputError(f"{file}: onnx's converter crashed on opset {opset}: {advice}") from error
    except BundleError as error:
        raise InputError(f"{file}: onnx's converter refuses opset {opset}: {error}; {advice}") from error


def in_opset(graph: bytes, opset: int) -> bytes:
    """Convert a graph to another opset; runs in the sandbox.

    Raises:
        BundleError: onnx's converter refuses it.
    """
    try:
        converted = onnx.version_converter.convert_version(onnx.load_model_from_string(graph), opset)
    except Exception as error:
        raise BundleError(" ".join(str(error).split())[:200]) from error
    return converted.SerializeToString(deterministic=True)
