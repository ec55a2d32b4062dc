"""One row per execution provider, and which of them `--device` chooses."""

import logging
from typing import get_args

import onnxruntime
import pytest
from autoencoder.v1.model_pb2 import Model
from inference.model_config_pb2 import ModelInstanceGroup

from bundle.errors import BundleError
from server.execution_config import Device, SessionConfig
from server.runtime.providers import CPU, CUDA, OPENVINO, PROVIDERS, choose_provider, expects_gpu, provider_for
from server.runtime.session import DeviceError, Session

CUDA_HERE = CUDA.name in onnxruntime.get_available_providers()


def test_every_device_but_auto_is_one_provider() -> None:
    assert sorted(row.device for row in PROVIDERS.values()) == sorted(set(get_args(Device)) - {"auto"})
    for name, row in PROVIDERS.items():
        assert row.name == name
        assert name in onnxruntime.get_all_providers()
        assert ModelInstanceGroup.Kind.Value(row.instance_kind)
        assert issubclass(row.session, Session)


def test_only_the_processor_gives_the_same_bits_in_every_batch() -> None:
    assert [row for row in PROVIDERS.values() if row.deterministic] == [CPU, OPENVINO]


def test_settings_become_options() -> None:
    config = SessionConfig(cuda_device=1, cuda_graphs=True, cuda_memory_limit_bytes=5)
    options = CUDA.options(config)
    assert (options["device_id"], options["enable_cuda_graph"], options["gpu_mem_limit"]) == ("1", "1", "5")
    assert CPU.options(config) == {}


@pytest.mark.skipif(CUDA_HERE, reason="needs a machine without CUDA")
def test_cuda_is_refused_and_auto_degrades(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DeviceError, match=r"--device cuda: .*onnxruntime-gpu"):
        choose_provider(SessionConfig(device="cuda"))
    with caplog.at_level(logging.INFO):
        assert choose_provider(SessionConfig(device="auto")) is CPU
    assert "not running on CUDAExecutionProvider: this onnxruntime is built without" in caplog.text
    assert choose_provider(SessionConfig(device="cpu")) is CPU


@pytest.mark.skipif(CUDA_HERE, reason="needs a machine without CUDA")
@pytest.mark.parametrize(
    ("device", "gpus", "expected"), [("auto", 0, False), ("auto", 1, True), ("cuda", 1, True), ("cpu", 1, False)]
)
def test_a_gpu_is_expected_where_there_is_one_and_the_device_allows_it(
    device: Device, gpus: int, expected: bool
) -> None:
    assert expects_gpu(SessionConfig(device=device), gpus) is expected


@pytest.mark.skipif(OPENVINO.name in onnxruntime.get_available_providers(), reason="needs a build without OpenVINO")
def test_a_version_in_bfloat16_is_refused_by_name_where_it_cannot_run() -> None:
    config, model = SessionConfig(), Model(provenance={"precision": "bfloat16"})
    with pytest.raises(BundleError, match=r"this version is in bfloat16: .*; its float32 version runs anywhere"):
        provider_for(model, CPU, config)
    assert provider_for(Model(provenance={"precision": "int8"}), CPU, config) is CPU
    with pytest.raises(DeviceError, match=r"--device openvino: .*install onnxruntime-openvino"):
        choose_provider(SessionConfig(device="openvino"))
