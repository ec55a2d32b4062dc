"""ONNX Runtime sessions of the gate, with the server's own options; needs no torch."""

import os
from typing import Any

from bundle.errors import BundleError
from bundle.golden import Array, Arrays
from bundle.runtime_options import PROVIDER_NAMES, Device, cuda_options, openvino_options, set_session_options

# Linux builds of onnxruntime report usage unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as _untyped

onnxruntime: Any = _untyped  # it ships no types


_CPU = PROVIDER_NAMES["cpu"]
_INSTALL: dict[Device, str] = {
    "cuda": "onnxruntime-gpu[cuda,cudnn]",
    "openvino": "onnxruntime-openvino",
    "openvino-bfloat16": "onnxruntime-openvino",
}
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
    _require(device)
    try:
        inner = onnxruntime.InferenceSession(graph, options, providers=_chain(device, threads), enable_fallback=0)
    except Exception as error:
        # The exceptions of onnxruntime have no common base class.
        raise BundleError(f"onnxruntime refuses the graph on {device}: {error}") from error
    # Where a provider cannot start, onnxruntime silently takes the next.
    if inner.get_providers()[0] != PROVIDER_NAMES[device]:
        raise BundleError(
            f"expected {PROVIDER_NAMES[device]}, onnxruntime could not start it: check its libraries and drivers"
        )
    return Session(inner)


def runtime_version() -> str:
    """Version of onnxruntime."""
    return str(onnxruntime.__version__)


def missing(device: Device) -> str | None:
    """Why onnxruntime cannot run on a device, as far as its build tells."""
    name = PROVIDER_NAMES[device]
    if name in onnxruntime.get_available_providers():
        return None
    return f"expected {name}, this onnxruntime has none: install {_INSTALL[device]} in its place"


def _chain(device: Device, threads: int) -> list[Any]:
    """Providers in order of preference, with their options."""
    options: dict[Device, dict[str, str]] = {
        "cuda": cuda_options(),
        "openvino": openvino_options(threads=threads),
        "openvino-bfloat16": openvino_options(bfloat16=True, threads=threads),
    }
    return [_CPU] if device == "cpu" else [(PROVIDER_NAMES[device], options[device]), _CPU]


def _require(device: Device) -> None:
    problem = missing(device)
    if problem is not None:
        raise BundleError(problem)
    if device == "cuda":
        onnxruntime.preload_dlls()
