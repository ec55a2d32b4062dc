"""onnxruntime with the settings that the server uses. Nothing here needs torch."""

import os
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bundle.errors import BundleError

# Linux builds report usage unless told otherwise before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as _untyped

onnxruntime: Any = _untyped  # it ships no types

Device: TypeAlias = Literal["cpu", "cuda"]
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_PROVIDERS: dict[Device, list[Any]] = {
    "cpu": [_CPU],
    # TF32 costs three digits; an exhaustive search would run again for every batch size.
    "cuda": [(_CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), _CPU],
}


class Session:
    """One graph, ready to run on one thread."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 (onnxruntime ships no types)
        self._inner = inner
        self._outputs = [str(output.name) for output in inner.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Inputs by name to outputs by name, first axis the batch.

        Raises:
            BundleError: the runtime fails in the graph.
        """
        try:
            return dict(zip(self._outputs, self._inner.run(self._outputs, dict(inputs)), strict=True))
        except Exception as error:
            raise BundleError(f"onnxruntime fails in the graph: {error}") from error


def open_session(graph: bytes, device: Device = "cpu") -> Session:
    """Make a session from the bytes of an ONNX file.

    Raises:
        BundleError: the runtime refuses the graph, or the device.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    if device == "cuda":
        _require_cuda()
    try:
        inner = onnxruntime.InferenceSession(graph, options, providers=_PROVIDERS[device], enable_fallback=0)
    except Exception as error:
        # The exceptions of onnxruntime share no base of their own.
        raise BundleError(f"onnxruntime refuses the graph on {device}: {error}") from error
    # A CUDA session that cannot start is silently a CPU session.
    if device == "cuda" and inner.get_providers()[0] != _CUDA:
        raise BundleError("expected CUDA, onnxruntime could not start it: check the driver, CUDA and cuDNN")
    return Session(inner)


def version() -> str:
    """Of onnxruntime."""
    return str(onnxruntime.__version__)


def rows_of(inputs: Arrays) -> int:
    """Rows in a batch."""
    return len(next(iter(inputs.values())))


def taken(inputs: Arrays, rows: slice | list[int]) -> dict[str, NDArray[Any]]:
    """Some rows of a batch."""
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def _require_cuda() -> None:
    if _CUDA not in onnxruntime.get_available_providers():
        raise BundleError("expected CUDA, this onnxruntime has none: install onnxruntime-gpu[cuda,cudnn] in its place")
    onnxruntime.preload_dlls()
