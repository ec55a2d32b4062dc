"""`--require-signature`: what export has signed serves, everything else does not."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bundle import layout
from bundle.signing import KeyFileError
from export.publication.signing import signer
from server.app import App
from server.config import Config
from tests.server.conftest import copy_version, serving

pytest.importorskip("model_signing")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key; its public half lies beside it."""
    made = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "private.pem"
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(public)
    return path


def signed(repository: Path, name: str, key: Path) -> Path:
    folder = copy_version(repository, name, 1)
    model = layout.read_model(folder)
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    signer(key)(folder)
    return folder


def test_signed_versions_alone_serve(repository: Path, key: Path) -> None:
    signed(repository, "vae", key)
    copy_version(repository, "fc-ae", 1)
    changed = signed(repository, "denoiser", key)
    description = (changed / layout.MODEL_FILE).read_bytes()
    (changed / layout.MODEL_FILE).write_bytes(description.replace(b'"epoch"', b'"epoch "'))
    other = ec.generate_private_key(ec.SECP256R1())
    strange = key.with_name("other.pem")
    strange.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    signed(repository, "multitask", strange)
    with serving(repository, require_signature=key.with_name("public.pem"), poll_seconds=0) as served:
        snapshot = served.app.table.snapshot
    assert set(snapshot.models) == {"vae"}
    reasons = {name: each.reason for (name, _), each in snapshot.unavailable.items()}
    assert "expected a signature" in reasons["fc-ae"]
    assert "is not the file that was signed" in reasons["denoiser"]
    assert "the given key did not sign it" in reasons["multitask"]


def test_an_unusable_key_fails_the_start(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "public.pem"
    file.write_text("nothing of the kind")
    app = App(Config(repository=repository, port=0, metrics_port=0, require_signature=file))
    with pytest.raises(KeyFileError, match="expected a public key"):
        app.start()
