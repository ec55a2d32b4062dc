"""ONNX Runtime settings of the server and the export gate: devices, session options, CUDA provider options.

Session options are set on an object that the caller makes, so that nothing here imports onnxruntime. Both run graphs
with these settings, so that what the gate has measured holds in the server.
"""

from typing import Any, Literal, TypeAlias, cast

Device: TypeAlias = Literal["cpu", "cuda"]

PROVIDER_NAMES: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""ONNX Runtime's execution provider for each device."""
_ERRORS_ONLY = 3


def set_session_options(options: Any, *, intra_op_threads: int = 1) -> None:  # noqa: ANN401 (onnxruntime has no types)
    """Set everything that decides a graph's numbers, memory and threads on an `onnxruntime.SessionOptions`."""
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # The default is of the enumeration's type: no need to import the package for it.
    options.execution_mode = cast("Any", type(options.execution_mode)).ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # The arena would keep the memory of the largest batch, and saves nothing here.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


def cuda_options(*, device: int = 0, graphs: bool = False, memory_limit_bytes: int = 0) -> dict[str, str]:
    """Options of the CUDA provider: `device` by number, `graphs` captures CUDA graphs; no memory limit at 0."""
    options = {
        "device_id": str(device),
        # The exhaustive search takes half a second for every new batch size and gains nothing.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 costs three digits.
        "use_tf32": "0",
        "enable_cuda_graph": "1" if graphs else "0",
    }
    if memory_limit_bytes:
        options["gpu_mem_limit"] = str(memory_limit_bytes)
    return options
