"""Graphs on onnxruntime: one session per signature, on the provider asked for or not at all."""

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

# onnxruntime reports usage from Linux builds unless told not to before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Signature, TensorSpec
from numpy.typing import NDArray

from bundle.errors import BundleError
from server.config import SessionConfig

# onnxruntime ships no types.
ort: Any = onnxruntime
OrtSession: TypeAlias = Any
OrtOptions: TypeAlias = Any
OrtRunOptions: TypeAlias = Any
Array: TypeAlias = NDArray[Any]
Provider: TypeAlias = Literal["CPUExecutionProvider", "CUDAExecutionProvider"]

CPU: Provider = "CPUExecutionProvider"
CUDA: Provider = "CUDAExecutionProvider"
RUNTIME_VERSION: str = ort.__version__

_LOGGER = logging.getLogger(__name__)
_ERRORS_ONLY = 3
# For signatures that name none.
DEFAULT_BUCKETS = (1, 8, 64, 256)
# The smallest ONNX model, y = Identity(x), opset 17: whether a provider can run anything at all.
_PROBE = (
    b'\x08\x08\x12\x00:;\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x05probeZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02'
    b"\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)
DTYPES: dict[int, np.dtype[Any]] = {
    model_pb2.DATA_TYPE_UINT8: np.dtype(np.uint8),
    model_pb2.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    model_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    model_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}
_ORT_TYPES = {
    "tensor(uint8)": model_pb2.DATA_TYPE_UINT8,
    "tensor(float16)": model_pb2.DATA_TYPE_FLOAT16,
    "tensor(float)": model_pb2.DATA_TYPE_FLOAT32,
    "tensor(int64)": model_pb2.DATA_TYPE_INT64,
}


class DeviceError(Exception):
    """The device asked for cannot be used; the text says why."""


def choose_provider(config: SessionConfig) -> Provider:
    """Provider for `--device`: what is asked for, or for auto CUDA where it works and else the CPU.

    Raises:
        DeviceError: CUDA is asked for and does not work.
    """
    if config.device == "cpu":
        return CPU
    problem = _cuda_problem(config)
    if problem is None:
        return CUDA
    if config.device == "cuda":
        raise DeviceError(f"--device cuda: {problem}")
    _LOGGER.info("no CUDA, running on the CPU: %s", problem)
    return CPU


def expects_gpu(config: SessionConfig, gpus: int) -> bool:
    """Whether models should run on a GPU: not told otherwise, with one at hand or a runtime made for it."""
    return config.device != "cpu" and (gpus > 0 or CUDA in ort.get_available_providers())


class Interrupt:
    """Ends runs from another thread: onnxruntime looks between two nodes of a graph. Once set it stays so."""

    def __init__(self) -> None:
        self._options: list[OrtRunOptions] = []
        self._set = False

    def set(self) -> None:
        """End what runs, and whatever begins to."""
        self._set = True
        for options in self._options:
            options.terminate = True

    def options(self) -> OrtRunOptions:
        """What a run must be given to be interrupted."""
        options = ort.RunOptions()
        self._options.append(options)
        options.terminate = self._set
        return options


class Session:
    """One graph, ready to run: rows in, one array per output."""

    def __init__(
        self, session: OrtSession, signature: Signature, provider: Provider, interrupt: Interrupt | None = None
    ) -> None:
        spec = signature.inputs[0]
        self.provider = provider
        self.dtype = DTYPES[spec.data_type]
        self.row_shape = tuple(spec.shape[1:])
        self.row_bytes = int(np.prod(self.row_shape)) * self.dtype.itemsize
        self._session = session
        self._interrupt = interrupt or Interrupt()
        self._run_options = self._interrupt.options()
        self._input = spec.name
        self._outputs = [output.name for output in signature.outputs]

    @classmethod
    def open(
        cls,
        signature: Signature,
        graph: bytes,
        provider: Provider,
        config: SessionConfig,
        interrupt: Interrupt | None = None,
    ) -> "Session":
        """Load a graph on a provider.

        Raises:
            BundleError: onnxruntime refuses it, or its inputs and outputs are not those of the signature.
            DeviceError: the provider is not the one that onnxruntime gave.
        """
        try:
            session = ort.InferenceSession(graph, _options(config), providers=_providers(provider, config))
        except Exception as error:
            raise BundleError(f"{signature.file}: onnxruntime refuses the graph: {error}") from error
        session.disable_fallback()
        if session.get_providers()[0] != provider:
            raise DeviceError(f"{signature.file}: expected {provider}, got {session.get_providers()[0]}")
        _check_interface(session, signature)
        if provider == CPU:
            return cls(session, signature, provider, interrupt)
        return BoundSession(session, signature, provider, ("cuda", config.cuda_device), interrupt)

    def run(self, batch: Array) -> Sequence[Array]:
        """(rows, …) to one array per output, (rows, …) each; safe from several threads."""
        return self._session.run(self._outputs, {self._input: batch}, self._run_options)


class BoundSession(Session):
    """A session whose batches are padded to the signature's buckets; buffers are bound once a bucket and reused."""

    def __init__(
        self,
        session: OrtSession,
        signature: Signature,
        provider: Provider,
        device: tuple[str, int],
        interrupt: Interrupt | None = None,
    ) -> None:
        super().__init__(session, signature, provider, interrupt)
        self._specs = list(signature.outputs)
        self._buckets = sorted(signature.batch_buckets) or DEFAULT_BUCKETS
        self._bound: dict[int, _BoundBatch] = {}
        self._device = device
        # The buffers of a bucket serve one run at a time; a captured CUDA graph needs that anyway.
        self._lock = threading.Lock()

    def run(self, batch: Array) -> Sequence[Array]:
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
            # Each batch size has a CUDA graph of its own, where they are captured.
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
        # A value on the CPU shows its buffer, which the next run writes to.
        return [value.numpy()[: len(batch)].copy() for value in self._outputs]


def _options(config: SessionConfig) -> OrtOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = config.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # The arena keeps the memory of the largest batch for ever and saves nothing here.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(provider: Provider, config: SessionConfig) -> list[Any]:
    return [(CUDA, _cuda_options(config)), CPU] if provider == CUDA else [CPU]


def _cuda_options(config: SessionConfig) -> dict[str, str]:
    options = {
        "device_id": str(config.cuda_device),
        # The exhaustive search takes half a second for every new batch size and wins nothing.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "enable_cuda_graph": "1" if config.cuda_graphs else "0",
    }
    if config.cuda_memory_limit_bytes:
        options["gpu_mem_limit"] = str(config.cuda_memory_limit_bytes)
    return options


def _cuda_problem(config: SessionConfig) -> str | None:
    """Why CUDA does not work here; None where it does."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA: install onnxruntime-gpu[cuda,cudnn] in place of onnxruntime"
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = _options(config)
    # With this a session that cannot start on CUDA is an error and no CPU session.
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(_PROBE, options, providers=[(CUDA, _cuda_options(config))])
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # noqa: BLE001 (onnxruntime raises many kinds)
        return f"a trial run has failed: {_clearer(str(error))}"
    return None if session.get_providers()[0] == CUDA else "onnxruntime gave another provider"


def _clearer(complaint: str) -> str:
    """What onnxruntime means where its CUDA provider does not start: it names the cause on stderr alone."""
    if "fallback to CPU EP has been explicitly disabled" in complaint:
        return "CUDA does not start; the lines above name the cause: a library, the driver, a full or absent card"
    return complaint


def _check_interface(session: OrtSession, signature: Signature) -> None:
    if len(signature.inputs) != 1 or not signature.outputs:
        raise BundleError(f"{signature.file}: expected a graph with one input and outputs")
    for specs, nodes, kind in (
        (signature.inputs, session.get_inputs(), "input"),
        (signature.outputs, session.get_outputs(), "output"),
    ):
        expected = [(spec.name, spec.data_type, tuple(spec.shape)) for spec in specs]
        got = [(node.name, _ORT_TYPES.get(node.type, 0), _static_shape(node.shape)) for node in nodes]
        if expected != got:
            raise BundleError(f"{signature.file}: expected {kind}s {expected}, as model.json says, got {got}")


def _static_shape(shape: Sequence[Any]) -> tuple[int, ...]:
    """Symbols become -1, as in model.json."""
    return tuple(size if isinstance(size, int) else -1 for size in shape)
