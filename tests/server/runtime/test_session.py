"""Sessions: providers, interfaces, padding to buckets through bound buffers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from autoencoder.v1.model_pb2 import Signature
from onnx import TensorProto, helper

from bundle import layout
from bundle.errors import BundleError
from server.execution_config import SessionConfig
from server.runtime import session
from server.runtime.providers import CPU, CUDA
from server.runtime.session import BoundSession, DeviceError, Session
from tests.server import free_models
from tests.server.conftest import GOLDEN, graph_run, pixels

CUDA_HERE = CUDA.name in onnxruntime.get_available_providers()


def vae(name: str) -> tuple[Signature, bytes]:
    folder = GOLDEN / "vae" / "1"
    signature = next(entry for entry in layout.read_model(folder).signatures if entry.name == name)
    return signature, (folder / signature.file).read_bytes()


def bound(buckets: tuple[int, ...]) -> BoundSession:
    """What serves on CUDA, with its buffers on the CPU."""
    signature, graph = vae("encode")
    del signature.batch_buckets[:]
    signature.batch_buckets.extend(buckets)
    return BoundSession(onnxruntime.InferenceSession(graph), signature, ("cpu", 0))


def test_the_probe_is_what_it_says() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="")
    assert model.SerializeToString(deterministic=True) == session._PROBE


def test_complaint_of_a_provider_that_does_not_start_is_made_clear() -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # A provider that can run nothing of this graph stands for one that does not start.
    with pytest.raises(Exception, match="fallback to CPU EP") as caught:
        onnxruntime.InferenceSession(session._PROBE, options, providers=["AzureExecutionProvider"])
    assert "CUDAExecutionProvider does not start" in session._clearer(str(caught.value), CUDA.name)
    assert session._clearer("out of memory", CUDA.name) == "out of memory"


@pytest.mark.skipif(CUDA_HERE, reason="needs a machine without CUDA")
@pytest.mark.filterwarnings("ignore:Specified provider 'CUDAExecutionProvider'")
def test_a_session_on_another_provider_is_refused() -> None:
    signature, graph = vae("encode")
    with pytest.raises(DeviceError, match=f"expected {CUDA.name}, got {CPU.name}"):
        CUDA.open(signature, graph, SessionConfig())


def test_a_graph_that_the_runtime_refuses() -> None:
    signature, graph = vae("encode")
    with pytest.raises(BundleError, match=r"encode\.onnx: onnxruntime refuses"):
        CPU.open(signature, graph[:-100], SessionConfig())


def test_a_graph_with_another_interface() -> None:
    signature, graph = vae("encode")
    signature.outputs[0].name = "codes"
    with pytest.raises(BundleError, match=r"expected outputs .*codes.*got .*latents"):
        CPU.open(signature, graph, SessionConfig())


def test_runs_do_not_fall_back() -> None:
    signature, graph = vae("encode")
    opened = CPU.open(signature, graph, SessionConfig())
    assert opened._session._enable_fallback is False
    assert (opened.row_shape, opened.row_bytes, opened.dtype) == ((8, 8, 1), 64, np.uint8)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 8, 9, 30])
def test_padding_changes_nothing(rows: int) -> None:
    batch = pixels(rows)
    for actual, expected in zip(bound((1, 4, 8)).run(batch), graph_run("encode", "vae", batch), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_buffers_are_made_once_and_answers_are_not_overwritten() -> None:
    opened = bound((4, 8))
    first = opened.run(pixels(3, seed=1))
    buffers = dict(opened._bound)
    opened.run(pixels(4, seed=2))
    np.testing.assert_array_equal(first[0], graph_run("encode", "vae", pixels(3, seed=1))[0])
    assert opened._bound == buffers
    assert set(buffers) == {4}


def test_bound_buffers_serve_one_thread_at_a_time() -> None:
    opened = bound((8,))
    expected = [graph_run("encode", "vae", pixels(5, seed=seed))[0] for seed in range(8)]
    start = threading.Barrier(8)

    def run(seed: int) -> bool:
        start.wait()
        return all(np.array_equal(opened.run(pixels(5, seed=seed))[0], expected[seed]) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))


def free_denoiser() -> tuple[Signature, bytes]:
    """Of images of any size, with noise levels."""
    images, levels, denoised = (
        free_models.spec(name, *axes)
        for name, axes in (("images", (-1, -1, 1)), ("noise_levels", ()), ("denoised", (-1, -1, 1)))
    )
    graph = free_models.graph(free_models.denoiser(levels=True), [images, levels], [denoised])
    return Signature(file="denoise.onnx", inputs=[images, levels], outputs=[denoised]), graph


def test_rows_of_any_size_and_a_second_input() -> None:
    signature, graph = free_denoiser()
    opened = CPU.open(signature, graph, SessionConfig())
    assert opened.row_shape == (-1, -1, 1)
    assert [each.shape for each in opened.zeros(3, 8)] == [(3, 8, 8, 1), (3,)]
    for side in (8, 10, 8):
        images = np.random.default_rng(side).random((3, side, side, 1), np.float32)
        levels = np.array([0, 0.1, 0.2], np.float32)
        expected = free_models.run(graph, {"images": images, "noise_levels": levels})
        np.testing.assert_array_equal(opened.run(images, levels)[0], expected[0])


@pytest.mark.filterwarnings("ignore:Duplicate provider")
def test_only_rows_of_one_shape_have_buffers_and_memory_patterns() -> None:
    signature, graph = free_denoiser()
    assert not session.is_uniform(signature)
    # Whatever a provider has for one shape.
    opened = replace(CPU, session=BoundSession).open(signature, graph, SessionConfig())
    assert type(opened) is Session
    assert not opened._session.get_session_options().enable_mem_pattern
    signature, graph = vae("encode")
    assert session.is_uniform(signature)
    assert CPU.open(signature, graph, SessionConfig())._session.get_session_options().enable_mem_pattern


def test_a_graph_without_its_second_input_is_refused() -> None:
    signature, graph = free_denoiser()
    del signature.inputs[1]
    with pytest.raises(BundleError, match=r"expected inputs .* as model\.json says, got .*noise_levels"):
        CPU.open(signature, graph, SessionConfig())


def test_telemetry_is_off() -> None:
    source = Path(session.__file__).read_text()
    assert source.index('"ORT_DISABLE_TELEMETRY", "1"') < source.index("import onnxruntime")
