import onnxruntime

from bundle.runtime_options import cuda_options, set_session_options


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
