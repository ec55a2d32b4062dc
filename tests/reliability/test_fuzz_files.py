"""Whatever lies on the disk: one clear error of the reader's own, or content that is what it claims to be."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from bundle import layout
from bundle.errors import BundleError
from bundle.golden import Golden
from bundle.graph import check_graph
from bundle.latents import LatentStatistics
from bundle.signing import KeyFileError, PublicKey, check_signing
from server.calls.auth import TokenFileError, read_tokens
from server.execution_config import SessionConfig
from server.runtime.providers import CPU
from tests.reliability.mutation import FUZZED, damaged
from tests.server.conftest import GOLDEN
from training import checkpoint
from training.data import arrays, idx
from training.data.split import Split
from training.errors import CheckpointError, DataError
from training.models import autoencoders
from training.recipe import load_recipe

VERSION = GOLDEN / "vae" / "1"
LISTED = sorted(path.name for path in VERSION.iterdir())


@pytest.mark.parametrize("name", LISTED)
def test_damaged_bundles_are_refused_whole(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "1"
    shutil.copytree(VERSION, folder)
    valid = (VERSION / name).read_bytes()

    @FUZZED
    @given(damaged(valid))
    def fuzz(data: bytes) -> None:
        (folder / name).write_bytes(data)
        try:
            model = layout.read_model(folder)
            contents = layout.read_files(folder, model)
        except BundleError:
            return
        # Nothing but model.json can differ and pass, and what it says is checked further on.
        assert name == layout.MODEL_FILE or contents[name] == valid

    fuzz()


@FUZZED
@given(damaged((VERSION / "golden.npz").read_bytes()))
def test_golden_vectors(data: bytes) -> None:
    try:
        Golden.from_bytes(data)
    except BundleError:
        return


@FUZZED
@given(damaged((VERSION / "latents.npz").read_bytes()))
def test_latent_statistics(data: bytes) -> None:
    try:
        LatentStatistics.from_bytes(data)
    except BundleError:
        return


@FUZZED
@given(damaged((VERSION / "encode.onnx").read_bytes()))
def test_graphs(data: bytes) -> None:
    """What passes the check may still be refused by onnxruntime, with an error and no crash."""
    signature = next(each for each in layout.read_model(VERSION).signatures if each.name == "encode")
    try:
        check_graph(data, signature, imported=False)
        CPU.open(signature, data, SessionConfig())
    except BundleError:
        return


@FUZZED
@given(damaged(b'{"dsseEnvelope": {"payload": "e30=", "payloadType": "x", "signatures": [{"sig": "AAAA"}]}}'))
def test_signatures(data: bytes) -> None:
    class NoKey(PublicKey):
        def __init__(self) -> None:
            pass

        def has_signed(self, message: bytes, signature: bytes) -> bool:
            del message, signature
            return False

    with pytest.raises(BundleError):
        check_signing(data, {}, NoKey())


@FUZZED
@given(damaged(b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"))
def test_keys(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    with pytest.raises(KeyFileError):
        PublicKey.read(tmp_path / "key")


@FUZZED
@given(damaged(b"inference 0123456789abcdef\n# more\nadmin fedcba9876543210\n"))
def test_token_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokens").write_bytes(data)
    try:
        tokens = read_tokens(tmp_path / "tokens")
    except TokenFileError:
        return
    assert tokens
    assert all(rights <= {"inference", "admin"} for _, rights in tokens)


IDX = np.array([idx.IMAGES_MAGIC, 2, 3, 4], ">u4").tobytes() + bytes(range(24))


@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files(tmp_path: Path, compressed: bool) -> None:
    name = idx.FILES[0]
    path = tmp_path / (f"{name}.gz" if compressed else name)

    @FUZZED
    @given(damaged(gzip.compress(IDX) if compressed else IDX))
    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read = idx.read_images(tmp_path, name, idx.Checksums())
        except DataError:
            return
        assert read.dtype == np.uint8

    fuzz()


def test_npz_data(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros((4, 3, 3, 1), np.uint8), labels=np.arange(4))
    data = load_recipe("fc-ae", "digits", []).data

    @FUZZED
    @given(damaged(path.read_bytes()))
    def fuzz(content: bytes) -> None:
        path.write_bytes(content)
        try:
            arrays.read_npz(path, data)
        except DataError:
            return

    fuzz()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of weights that have learned nothing yet."""
    settings = load_recipe("fc-ae", "digits", [])
    network = autoencoders.build(settings.model, (28, 28, 1))
    meta = {"model": checkpoint.describe(settings.model, (28, 28, 1), ())}
    reference = Split(np.zeros((4, 28, 28, 1), np.uint8), None)
    statistics = LatentStatistics.from_bytes((VERSION / "latents.npz").read_bytes())
    folder = tmp_path_factory.mktemp("run") / "best"
    checkpoint.write(folder, checkpoint.files(network.state_dict(), meta, reference, statistics))
    return folder


@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors", "reference.npz", "latents.npz"])
def test_checkpoints(saved: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "best"
    shutil.copytree(saved, folder)

    @FUZZED
    @given(damaged((saved / name).read_bytes()))
    def fuzz(data: bytes) -> None:
        (folder / name).write_bytes(data)
        try:
            checkpoint.load(folder)
        except CheckpointError:
            return

    fuzz()
