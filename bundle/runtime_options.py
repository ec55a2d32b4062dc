"""ONNX Runtime settings of the server and the export gate: devices, session options, options of providers.

Session options are set on an object that the caller makes, so that nothing here imports onnxruntime. Both run graphs
with these settings, so that what the gate has measured holds in the server.
"""

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from autoencoder.v1.model_pb2 import Model

Device: TypeAlias = Literal["cpu", "cuda", "openvino", "openvino-bfloat16"]

DEVICES: tuple[Device, ...] = ("cpu", "cuda", "openvino")
"""Those to choose from; variants in bfloat16 run on the fourth."""
PROVIDER_NAMES: dict[Device, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "openvino-bfloat16": "OpenVINOExecutionProvider",
}
"""ONNX Runtime's execution provider for each device."""
PROMISES_BITS = frozenset[Device]({"cpu", "openvino", "openvino-bfloat16"})
"""Devices on which a batch-invariant graph must give a row the same bits in every batch."""
PRECISION, BFLOAT16 = "precision", "bfloat16"
"""Key of `Model.provenance`, and its value for float32 graphs that are run in bfloat16."""
_ERRORS_ONLY = 3
_CPUINFO = Path("/proc/cpuinfo")
# As Linux names them: x86 by vectors and by tiles, Arm.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


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


def openvino_options(*, bfloat16: bool = False, threads: int = 1, runs: int = 1) -> dict[str, str]:
    """Options of the OpenVINO provider on the processor: for so many `runs` at a time, of so many `threads` each.

    Without a precision it would take the processor's fastest, and with one stream do one run after another.
    """
    properties = {
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        "NUM_STREAMS": str(runs),
        "INFERENCE_NUM_THREADS": str(runs * threads),
    }
    # The provider takes a string of JSON; by a path, or JSON that it cannot read, ONNX Runtime leaves it out silently.
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}


def is_bfloat16(model: Model) -> bool:
    """Whether a bundle was judged in bfloat16, and so runs in it alone."""
    return model.provenance.get(PRECISION) == BFLOAT16


def lacks_bfloat16(cpuinfo: Path = _CPUINFO) -> str | None:
    """Why this processor cannot run a variant in bfloat16; None where it can. Source: Linux, /proc/cpuinfo."""
    try:
        found = _BFLOAT16_FLAGS.intersection(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        found = frozenset[str]()
    return (
        None if found else f"expected a processor with {', '.join(sorted(_BFLOAT16_FLAGS))}, got one without bfloat16"
    )
