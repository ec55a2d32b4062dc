"""The self-test on graphs of the committed bundles; `test_manager` has the servers that refuse a version."""

import dataclasses

import numpy as np
import pytest
from autoencoder.v1.model_pb2 import Signature

from bundle import layout
from bundle.golden import Case, Golden
from bundle.latents import LatentStatistics
from server.execution_config import SessionConfig
from server.models.self_test import LoadedBundle, SelfTestError, check_invariance, prove_tiles, replay, replay_sample
from server.runtime.providers import CPU
from server.runtime.session import Array, Session
from tests.server import free_models
from tests.server.conftest import GOLDEN


@pytest.fixture(scope="module")
def loaded() -> LoadedBundle:
    folder = GOLDEN / "vae" / "1"
    model = layout.read_model(folder)
    files = layout.read_files(folder, model)
    sessions = {each.name: CPU.open(each, files[each.file], SessionConfig()) for each in model.signatures}
    statistics = LatentStatistics.from_bytes(files[layout.LATENTS_FILE])
    return LoadedBundle(model, Golden.from_bytes(files[layout.GOLDEN_FILE]), statistics, CPU, sessions, opset=20)


def signature_of(loaded: LoadedBundle, name: str) -> Signature:
    return next(each for each in loaded.model.signatures if each.name == name)


class Seeing(Session):
    """Rows of a batch shift each other."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def run(self, batch: Array) -> list[Array]:
        return [array + np.float32(len(batch) - 1) for array in self.inner.run(batch)]


def test_committed_graphs_pass(loaded: LoadedBundle) -> None:
    for signature in loaded.model.signatures:
        session = loaded.sessions[signature.name]
        assert 0 <= replay(signature, session, loaded.golden) < 1e-5
        check_invariance(signature, session, loaded.golden)
    assert loaded.golden.sample_case is not None
    replay_sample(loaded, loaded.golden.sample_case)


def test_other_outputs_are_refused(loaded: LoadedBundle) -> None:
    case = loaded.golden.cases["decode"][0]
    shifted = Case(case.inputs, {name: array + np.float32(0.5) for name, array in case.outputs.items()})
    with pytest.raises(SelfTestError, match=r"decode\.onnx: golden case 0, output images: off by 0\.5"):
        replay(signature_of(loaded, "decode"), loaded.sessions["decode"], Golden({"decode": (shifted,)}))


def test_another_sample_is_refused(loaded: LoadedBundle) -> None:
    case = loaded.golden.sample_case
    assert case is not None
    with pytest.raises(SelfTestError, match="draws other latents"):
        replay_sample(loaded, dataclasses.replace(case, seed=case.seed + 1))
    with pytest.raises(SelfTestError, match=r"decode\.onnx: the golden sample is off by 0\.5"):
        replay_sample(loaded, dataclasses.replace(case, images=case.images + np.float32(0.5)))


def test_rows_that_see_each_other_are_refused(loaded: LoadedBundle) -> None:
    with pytest.raises(SelfTestError, match="claims that batches change no bit, but a row alone differs by"):
        check_invariance(signature_of(loaded, "encode"), Seeing(loaded.sessions["encode"]), loaded.golden)


def denoiser(name: str, *axes: int) -> tuple[Signature, Session]:
    images, output = free_models.spec("images", -1, -1, 1), free_models.spec(name, *axes)
    chain = (
        free_models.Chain().then("ReduceMean", np.array([1, 2]), output=name, keepdims=0) if len(axes) == 1 else None
    )
    graph = free_models.graph(chain or free_models.denoiser(), [images], [output])
    signature = Signature(file="denoise.onnx", inputs=[images], outputs=[output], tiling=free_models.TILING)
    return signature, CPU.open(signature, graph, SessionConfig())


def test_tiles_are_compared_in_bits() -> None:
    assert prove_tiles(*denoiser("denoised", -1, -1, 1), noise_level=0)


class Rounding(Session):
    """What a larger image gives differs in the last bits."""

    def __init__(self, inner: Session) -> None:
        self.inner = inner

    def run(self, batch: Array, *others: Array) -> list[Array]:
        return [array * np.float32(1 + 1e-7 * batch.shape[1]) for array in self.inner.run(batch, *others)]


def test_tiles_within_the_tolerance_are_served_as_such() -> None:
    signature, session = denoiser("denoised", -1, -1, 1)
    assert not prove_tiles(signature, Rounding(session), noise_level=0)


def test_tiles_that_differ_are_refused() -> None:
    signature, session = denoiser("denoised", -1, -1, 1)
    signature.tiling.halo = 2
    with pytest.raises(
        SelfTestError, match=r"denoise\.onnx: tiles with the halo 2 of model\.json differ by 0\.\d+ from"
    ):
        prove_tiles(signature, session, noise_level=0)


def test_tiles_give_no_numbers_of_whole_images() -> None:
    with pytest.raises(
        SelfTestError, match=r"denoise\.onnx: expected means with height and width, as tiles are pasted"
    ):
        prove_tiles(*denoiser("means", 1), noise_level=0)
