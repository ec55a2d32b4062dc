import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bundle.errors import BundleError
from bundle.signing import KeyFileError, PublicKey, check_signing

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))

import keys

CONTENTS = {"model.json": b"{}", "encode.onnx": b"graph"}


def signed(folder: Path, private: Path) -> bytes:
    """model.sig, made by the program of the package model-signing."""
    folder.mkdir()
    for name, data in CONTENTS.items():
        (folder / name).write_bytes(data)
    target = folder.parent / "model.sig"
    arguments = ["sign", "key", str(folder), "--private_key", str(private), "--signature", str(target)]
    subprocess.run([sys.executable, "-m", "model_signing", *arguments], check=True, capture_output=True)
    return target.read_bytes()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return keys.write_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signature(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signed(tmp_path_factory.mktemp("signed") / "model", pair[0])


def test_what_model_signing_signs_is_accepted(pair: tuple[Path, Path], signature: bytes) -> None:
    check_signing(signature, CONTENTS, PublicKey.read(pair[1]))
    check_signing(signature, {"model.json": b"{}"}, PublicKey.read(pair[1]))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_larger_curves(curve: ec.EllipticCurve, tmp_path: Path) -> None:
    private, public = keys.write_pair(tmp_path / "keys", curve)
    check_signing(signed(tmp_path / "model", private), CONTENTS, PublicKey.read(public))


@pytest.mark.parametrize(
    ("contents", "name"),
    [
        ({"model.json": b"{ }"}, "model.json"),
        ({"model.json": b"{}", "encode.onnx": b"other"}, "encode.onnx"),
        ({"model.json": b"{}", "decode.onnx": b"graph"}, "decode.onnx"),
    ],
)
def test_other_files_are_refused(
    contents: dict[str, bytes], name: str, pair: tuple[Path, Path], signature: bytes
) -> None:
    with pytest.raises(BundleError, match=f"{name} is not the file that was signed"):
        check_signing(signature, contents, PublicKey.read(pair[1]))


def test_another_key_is_refused(signature: bytes, tmp_path: Path) -> None:
    _, public = keys.write_pair(tmp_path)
    with pytest.raises(BundleError, match="the given key did not sign it"):
        check_signing(signature, CONTENTS, PublicKey.read(public))


def test_a_changed_statement_is_refused(pair: tuple[Path, Path], signature: bytes) -> None:
    forged = json.loads(signature)
    payload = json.loads(base64.b64decode(forged["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"] = []
    forged["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    with pytest.raises(BundleError, match="the given key did not sign it"):
        check_signing(json.dumps(forged).encode(), CONTENTS, PublicKey.read(pair[1]))


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"dsseEnvelope": {"payload": "*"}}', b"x" * 64, b"[" * 200_000]
)
def test_what_is_not_a_signing(data: bytes, pair: tuple[Path, Path]) -> None:
    with pytest.raises(BundleError, match="expected a Sigstore bundle"):
        check_signing(data, CONTENTS, PublicKey.read(pair[1]))


def test_keys_that_cannot_be_used(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    _, foreign = keys.write_foreign_pair(tmp_path)
    (tmp_path / "text").write_text("no key")
    for file, message in ((foreign, "P-256"), (tmp_path / "text", "PEM"), (tmp_path / "no", "PEM"), (pair[0], "PEM")):
        with pytest.raises(KeyFileError, match=message):
            PublicKey.read(file)
