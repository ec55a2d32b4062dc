"""ONNX Runtime sessions: one per signature, on the requested execution provider or not at all."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

# Linux builds of onnxruntime report usage unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from autoencoder.v1.model_pb2 import Signature, TensorSpec
from autoencoder.v1.shapes import DTYPES, FREE
from numpy.typing import NDArray

from bundle.errors import BundleError
from bundle.runtime_options import set_session_options
from bundle.tensor_types import FROM_RUNTIME
from server.execution_config import SessionConfig

# onnxruntime ships no types.
ort: Any = onnxruntime
OrtSession: TypeAlias = Any
OrtOptions: TypeAlias = Any
OrtRunOptions: TypeAlias = Any
Array: TypeAlias = NDArray[Any]
# Names and options in order of preference.
ProviderChain: TypeAlias = Sequence[tuple[str, Mapping[str, str]]]

RUNTIME_VERSION: str = ort.__version__

# Errors are raised, and logged with the others; onnxruntime's own lines are coloured, and would break a log of JSON.
_FATAL_ONLY = 4
# For signatures without their own.
DEFAULT_BUCKETS = (1, 8, 64, 256)
# The smallest ONNX model, y = Identity(x), opset 17: whether a provider can run anything.
_PROBE = (
    b'\x08\x08\x12\x00:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02'
    b"\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


class DeviceError(Exception):
    """The requested device is unusable; the text says why."""


def available() -> frozenset[str]:
    """Execution providers that this build of ONNX Runtime has."""
    return frozenset(ort.get_available_providers())


def probe(provider: str, provider_options: Mapping[str, str], config: SessionConfig) -> str | None:
    """Why a provider cannot run the smallest graph here; None where it can."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = _options(config)
    # Without this, a session that cannot start on the provider silently runs on the CPU.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(_PROBE, options, providers=[(provider, dict(provider_options))])
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # noqa: BLE001 (onnxruntime raises many kinds)
        return f"a test run failed: {_clearer(str(error), provider)}"
    return None if session.get_providers()[0] == provider else "onnxruntime gave another provider"


class Interrupt:
    """Cancels runs from another thread: onnxruntime checks between two nodes of a graph. Once set it stays set."""

    def __init__(self) -> None:
        self._options: list[OrtRunOptions] = []
        self._set = False

    def set(self) -> None:
        """Cancel running and future runs."""
        self._set = True
        for options in self._options:
            options.terminate = True

    def options(self) -> OrtRunOptions:
        """Run options that make a run cancellable."""
        options = ort.RunOptions()
        self._options.append(options)
        options.terminate = self._set
        return options


class Session:
    """One graph, ready to run: rows of each input in, one array per output."""

    def __init__(self, session: OrtSession, signature: Signature, interrupt: Interrupt | None = None) -> None:
        spec = signature.inputs[0]
        self.dtype = DTYPES[spec.data_type]
        self.row_shape = tuple(spec.shape[1:])
        """-1 where a size is free; `row_bytes` means nothing then."""
        self.row_bytes = int(np.prod(self.row_shape)) * self.dtype.itemsize
        self._session = session
        self._interrupt = interrupt or Interrupt()
        self._run_options = self._interrupt.options()
        self._input = spec.name
        self._others = list(signature.inputs[1:])
        self._outputs = [output.name for output in signature.outputs]

    @classmethod
    def open(
        cls,
        signature: Signature,
        graph: bytes,
        providers: ProviderChain,
        config: SessionConfig,
        interrupt: Interrupt | None = None,
    ) -> "Session":
        """Load a graph on the first of the providers; operators that it lacks run on the next.

        Raises:
            BundleError: onnxruntime refuses it, or its inputs and outputs are not those of the signature.
            DeviceError: the first provider is not the one that onnxruntime gave.
        """
        return cls(_load(graph, signature, providers, config), signature, interrupt)

    def run(self, batch: Array, *others: Array) -> Sequence[Array]:
        """(rows, …) of each input to one array per output, (rows, …) each; safe from several threads."""
        feeds = {self._input: batch}
        if others:
            feeds |= {spec.name: rows for spec, rows in zip(self._others, others, strict=True)}
        return self._session.run(self._outputs, feeds, self._run_options)

    def zeros(self, rows: int, side: int) -> list[Array]:
        """Make rows of zeros for each input; free axes are `side` long."""
        others = [np.zeros((rows, *spec.shape[1:]), DTYPES[spec.data_type]) for spec in self._others]
        return [np.zeros((rows, *_sized(self.row_shape, side)), self.dtype), *others]


class BoundSession(Session):
    """A session of `is_uniform` graphs: batches are padded to buckets, whose buffers are bound once and reused."""

    def __init__(
        self,
        session: OrtSession,
        signature: Signature,
        device: tuple[str, int],
        interrupt: Interrupt | None = None,
    ) -> None:
        super().__init__(session, signature, interrupt)
        self._specs = list(signature.outputs)
        self._buckets = sorted(signature.batch_buckets) or DEFAULT_BUCKETS
        self._bound: dict[int, _BoundBatch] = {}
        self._device = device
        # The buffers of a bucket serve one run at a time, which a captured CUDA graph requires anyway.
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        signature: Signature,
        graph: bytes,
        providers: ProviderChain,
        config: SessionConfig,
        interrupt: Interrupt | None = None,
    ) -> "BoundSession":
        """As `Session.open`, with buffers on the CUDA device."""
        session = _load(graph, signature, providers, config)
        return cls(session, signature, ("cuda", config.cuda_device), interrupt)

    def run(self, batch: Array, *_: Array) -> Sequence[Array]:
        """As `Session.run`; a batch beyond the largest bucket is run in pieces."""
        largest = self._buckets[-1]
        with self._lock:
            pieces = [self._run_piece(batch[first : first + largest]) for first in range(0, len(batch), largest)]
        return pieces[0] if len(pieces) == 1 else [np.concatenate(column) for column in zip(*pieces, strict=True)]

    def _run_piece(self, batch: Array) -> list[Array]:
        rows = next(size for size in self._buckets if size >= len(batch))
        bound = self._bound.get(rows)
        if bound is None:
            padded = np.zeros((rows, *self.row_shape), self.dtype)
            options = self._interrupt.options()
            # Where CUDA graphs are captured, each batch size has its own.
            options.add_run_config_entry("gpu_graph_id", str(rows))
            bound = _BoundBatch(self._session, self._input, padded, self._specs, self._device, options)
            self._bound[rows] = bound
        return bound.run(batch)


class _BoundBatch:
    """Input and output buffers of one batch size on the device."""

    def __init__(
        self,
        session: OrtSession,
        name: str,
        padded: Array,
        outputs: Sequence[TensorSpec],
        device: tuple[str, int],
        options: OrtRunOptions,
    ) -> None:
        self._session = session
        self._options = options
        self._padded = padded
        self._input = ort.OrtValue.ortvalue_from_numpy(padded, *device)
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type((len(padded), *spec.shape[1:]), DTYPES[spec.data_type], *device)
            for spec in outputs
        ]
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(name, self._input)
        for spec, value in zip(outputs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(spec.name, value)

    def run(self, batch: Array) -> list[Array]:
        self._padded[: len(batch)] = batch
        self._input.update_inplace(self._padded)
        self._session.run_with_iobinding(self._binding, self._options)
        # A value on the CPU is a view of its buffer, which the next run overwrites.
        return [value.numpy()[: len(batch)].copy() for value in self._outputs]


def is_uniform(signature: Signature) -> bool:
    """Whether a graph has one input, all of whose rows have the same shape."""
    return len(signature.inputs) == 1 and FREE not in signature.inputs[0].shape[1:]


def _load(graph: bytes, signature: Signature, providers: ProviderChain, config: SessionConfig) -> OrtSession:
    options = _options(config)
    # onnxruntime keeps a memory pattern for each shape that it has seen: 16 MiB after 10,000 of a graph of ten nodes.
    options.enable_mem_pattern = is_uniform(signature)
    options.log_severity_level = _FATAL_ONLY
    try:
        session = ort.InferenceSession(graph, options, providers=list(providers))
    except Exception as error:
        raise BundleError(f"{signature.file}: onnxruntime refuses the graph: {error}") from error
    session.disable_fallback()
    if session.get_providers()[0] != providers[0][0]:
        raise DeviceError(f"{signature.file}: expected {providers[0][0]}, got {session.get_providers()[0]}")
    _check_interface(session, signature)
    return session


def _options(config: SessionConfig) -> OrtOptions:
    options = ort.SessionOptions()
    set_session_options(options, intra_op_threads=config.intra_op_threads)
    return options


def _clearer(complaint: str, provider: str) -> str:
    """A clearer error where a provider does not start: onnxruntime names the cause on stderr only."""
    if "fallback to CPU EP has been explicitly disabled" in complaint:
        return (
            f"{provider} does not start; the lines above name the cause: a library, the driver, a full or absent device"
        )
    return complaint


def _check_interface(session: OrtSession, signature: Signature) -> None:
    if not signature.inputs or not signature.outputs:
        raise BundleError(f"{signature.file}: expected a graph with inputs and outputs")
    for specs, nodes, kind in (
        (signature.inputs, session.get_inputs(), "input"),
        (signature.outputs, session.get_outputs(), "output"),
    ):
        expected = [(spec.name, spec.data_type, tuple(spec.shape)) for spec in specs]
        got = [(node.name, FROM_RUNTIME.get(node.type, 0), _static_shape(node.shape)) for node in nodes]
        if expected != got:
            raise BundleError(f"{signature.file}: expected {kind}s {expected}, as model.json says, got {got}")


def _static_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    """Symbols become -1, as in model.json."""
    return tuple(size if isinstance(size, int) else FREE for size in shape)


def _sized(shape: Sequence[int], side: int) -> tuple[int, ...]:
    return tuple(side if size == FREE else size for size in shape)
