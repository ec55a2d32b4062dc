import json
from pathlib import Path

import onnxruntime
from autoencoder.v1.model_pb2 import Model

from bundle.runtime_options import cuda_options, is_bfloat16, lacks_bfloat16, openvino_options, set_session_options


def test_session_options() -> None:
    options = onnxruntime.SessionOptions()
    set_session_options(options, intra_op_threads=3)
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.use_deterministic_compute
    assert not options.enable_cpu_mem_arena
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_cuda_options() -> None:
    assert cuda_options() == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "enable_cuda_graph": "0",
    }
    limited = cuda_options(device=2, graphs=True, memory_limit_bytes=1024)
    assert (limited["device_id"], limited["enable_cuda_graph"], limited["gpu_mem_limit"]) == ("2", "1", "1024")


def test_openvino_options_are_json_and_never_leave_the_precision_open() -> None:
    options = openvino_options(threads=2, runs=3)
    assert options["device_type"] == "CPU"
    properties = json.loads(options["load_config"])["CPU"]
    assert properties == {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "3", "INFERENCE_NUM_THREADS": "6"}
    halved = json.loads(openvino_options(bfloat16=True)["load_config"])["CPU"]
    assert halved["INFERENCE_PRECISION_HINT"] == "bf16"


def test_a_processor_without_bfloat16_is_told_by_its_flags(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for flags, able in (("fpu avx512f avx512_bf16 sha", True), ("asimd bf16", True), ("fpu avx2 avx512_vnni", False)):
        cpuinfo.write_text(f"model name: a processor\nflags\t\t: {flags}\n")
        problem = lacks_bfloat16(cpuinfo)
        assert (problem is None) is able
        assert able or "amx_bf16, avx512_bf16, bf16" in problem
    assert lacks_bfloat16(tmp_path / "absent") is not None


def test_bfloat16_is_known_by_the_provenance() -> None:
    assert is_bfloat16(Model(provenance={"precision": "bfloat16"}))
    assert not is_bfloat16(Model(provenance={"precision": "float16"}))
    assert not is_bfloat16(Model())
