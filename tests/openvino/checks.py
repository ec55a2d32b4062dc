"""Variants in bfloat16 with onnxruntime's OpenVINO provider: exported through the gate, verified, served.

`make openvino-check` runs this in an environment of its own: onnxruntime-openvino fills the package onnxruntime.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from torch import Tensor, nn

from bundle.errors import BundleError
from bundle.runtime_options import lacks_bfloat16, openvino_options
from export.errors import GateError, InputError
from export.exporter import build_and_check, write
from export.gate.sandbox import Sandbox
from export.gate.session import open_session
from export.graphs.quantization import Precision
from export.inspection.verify import verify
from export.publication.publish import Place
from server.execution_config import SessionConfig
from server.runtime.providers import OPENVINO, choose_provider
from tests.export import networks
from tests.server.conftest import GOLDEN, TRANSPORTS, Served, array, images, metric, pixels, serving
from training.checkpoint import Checkpoint
from training.data.dataset import Split

SHAPE = (16, 16, 1)
WITHOUT = lacks_bfloat16()
needs_bfloat16 = pytest.mark.skipif(WITHOUT is not None, reason=str(WITHOUT))


class WideDenoiser(networks.Network):
    """Convolutions wide enough that arithmetic counts."""

    family = "denoiser"

    def __init__(self) -> None:
        super().__init__(SHAPE)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def denoise(self, images: Tensor) -> Tensor:
        return self.layers(images)


def export(network: networks.Network, repository: Path, name: str, precision: Precision) -> Path:
    split = Split(networks.blobs(64, network.image_shape), None)
    loaded = Checkpoint(networks.weighted(network), {"name": "tiny"}, split, None)
    with Sandbox() as sandbox:
        draft, result = build_and_check(loaded, "ab" * 32, precision, "cpu", sandbox)
    return write(draft, result, Place(repository, name), 0).folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser in bfloat16, and one in float32."""
    folder = tmp_path_factory.mktemp("models")
    export(WideDenoiser(), folder, "halved", "bfloat16")
    shutil.copytree(GOLDEN / "denoiser", folder / "denoiser")
    return folder


@pytest.fixture(params=TRANSPORTS)
def served(request: pytest.FixtureRequest, repository: Path) -> Iterator[Served]:
    with serving(repository, transport=request.param, poll_seconds=0) as server:
        yield server


def denoised(served: Served, model: str, noisy: np.ndarray) -> np.ndarray:
    request = pb.DenoiseRequest(model_name=model, images=images(noisy), image_format=pb.IMAGE_FORMAT_FLOAT32)
    return array(served.stub.Denoise(request, timeout=60).images.tensor)


def test_the_provider_is_taken_when_it_is_asked_for() -> None:
    assert choose_provider(SessionConfig(device="openvino")) is OPENVINO
    assert choose_provider(SessionConfig()).device == "cpu"


def test_a_configuration_that_is_not_understood_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime silently goes on with its own CPU provider."""
    broken = {**openvino_options(), "load_config": "no JSON"}
    monkeypatch.setattr("export.gate.session.openvino_options", lambda **_: broken)
    with pytest.raises(BundleError, match=r"OpenVINOExecutionProvider|refuses the graph"):
        open_session((GOLDEN / "denoiser" / "1" / "denoise.onnx").read_bytes(), "openvino")


def test_float32_is_served_by_it_within_the_tolerance_of_the_bundles() -> None:
    with serving(GOLDEN, device="openvino", poll_seconds=0) as served:
        assert metric(served, "autoencoder_model_info", provider=OPENVINO.name) == 4
        assert metric(served, "autoencoder_model_info") == 4


@needs_bfloat16
def test_a_variant_is_verified_where_it_can_run(repository: Path) -> None:
    folder = repository / "halved" / "1"
    findings = verify(folder, "openvino")
    assert [str(each) for each in findings if not each.passed] == []
    with pytest.raises(InputError, match="expected --device openvino for a version in bfloat16, got cpu"):
        verify(folder)


@needs_bfloat16
def test_a_variant_is_served_in_bfloat16_beside_float32(served: Served, repository: Path) -> None:
    assert metric(served, "autoencoder_model_info", model="halved", provider=OPENVINO.name) == 1
    assert metric(served, "autoencoder_model_info", model="denoiser", provider="CPUExecutionProvider") == 1
    noisy = pixels(16, SHAPE)
    session = open_session((repository / "halved" / "1" / "denoise.onnx").read_bytes())
    expected = session.run_rows((noisy / 255).astype(np.float32))["denoised"]
    # Other bits, as eight digits of the mantissa are left, and the same picture.
    assert 1e-5 < np.abs(denoised(served, "halved", noisy) - expected).max() < 0.05


@needs_bfloat16
def test_a_row_alone_has_the_bits_of_the_row_in_company(served: Served) -> None:
    noisy = pixels(9, SHAPE)
    alone = np.concatenate([denoised(served, "halved", noisy[index : index + 1]) for index in range(len(noisy))])
    assert np.array_equal(alone, denoised(served, "halved", noisy))


@needs_bfloat16
def test_a_graph_that_gains_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="it does not pay, serve float32"):
        export(networks.Denoiser((6, 6, 3)), tmp_path, "small", "bfloat16")
