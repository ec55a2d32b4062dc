"""ONNX Runtime sessions of the gate, with the server's own options; needs no torch."""

import os
from typing import Any

from bundle.errors import BundleError
from bundle.golden import Array, Arrays
from bundle.runtime_options import PROVIDER_NAMES, Device, cuda_options, set_session_options

# Linux builds of onnxruntime report usage unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as _untyped

onnxruntime: Any = _untyped  # it ships no types


_CPU, _CUDA = PROVIDER_NAMES["cpu"], PROVIDER_NAMES["cuda"]
_PROVIDERS: dict[Device, list[Any]] = {"cpu": [_CPU], "cuda": [(_CUDA, cuda_options()), _CPU]}
# Of onnxruntime's levels of logging.
_FATAL = 4


class Session:
    """One graph, ready to run."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 (onnxruntime ships no types)
        self._inner = inner
        self._inputs = [str(each.name) for each in inner.get_inputs()]
        self._outputs = [str(output.name) for output in inner.get_outputs()]

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Inputs by name to outputs by name, first axis the batch.

        Raises:
            BundleError: the runtime fails in the graph.
        """
        try:
            return dict(zip(self._outputs, self._inner.run(self._outputs, dict(inputs)), strict=True))
        except Exception as error:
            raise BundleError(f"onnxruntime fails in the graph: {error}") from error

    def run_rows(self, *rows: Array) -> dict[str, Array]:
        """(rows, …) for each input of the graph, in its order, to its outputs by name.

        Raises:
            BundleError: the runtime fails in the graph.
        """
        return self.run(dict(zip(self._inputs, rows, strict=True)))


def open_session(graph: bytes, device: Device = "cpu", threads: int = 1, *, quiet: bool = False) -> Session:
    """Make a session from the bytes of an ONNX file; it runs on one thread unless more are given.

    With `quiet` the runtime prints no errors of its own, where failing is an answer.

    Raises:
        BundleError: the runtime refuses the graph, or the device.
    """
    options = onnxruntime.SessionOptions()
    set_session_options(options, intra_op_threads=threads)
    if quiet:
        options.log_severity_level = _FATAL
    if device == "cuda":
        _require_cuda()
    try:
        inner = onnxruntime.InferenceSession(graph, options, providers=_PROVIDERS[device], enable_fallback=0)
    except Exception as error:
        # The exceptions of onnxruntime have no common base class.
        raise BundleError(f"onnxruntime refuses the graph on {device}: {error}") from error
    # A CUDA session that cannot start is silently a CPU session.
    if device == "cuda" and inner.get_providers()[0] != _CUDA:
        raise BundleError("expected CUDA, onnxruntime could not start it: check the driver, CUDA and cuDNN")
    return Session(inner)


def runtime_version() -> str:
    """Version of onnxruntime."""
    return str(onnxruntime.__version__)


def _require_cuda() -> None:
    if _CUDA not in onnxruntime.get_available_providers():
        raise BundleError("expected CUDA, this onnxruntime has none: install onnxruntime-gpu[cuda,cudnn] in its place")
    onnxruntime.preload_dlls()
