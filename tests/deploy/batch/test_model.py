import hashlib
import json
from pathlib import Path

import pytest

from bundle import layout
from deploy.batch.errors import InputError
from deploy.batch.model import Model
from tests.deploy.batch.conftest import VAE


def test_carries_every_file_and_names_the_bundle_by_its_description(tmp_path: Path) -> None:
    model = Model.read(str(VAE))
    described = (VAE / layout.MODEL_FILE).read_bytes()
    assert (model.name, model.version, model.sha256) == ("vae", "1", hashlib.sha256(described).hexdigest())
    model.write(tmp_path)
    folder = tmp_path / "vae" / "1"
    layout.read_files(folder, layout.read_model(folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "with a model.json in it"),
        ("{", "expected a model.json"),
        ("{}", "expected a model.json"),
        (json.dumps({"name": "../a", "version": "1", "files": []}), "expected a name"),
        (json.dumps({"name": "a", "version": "1", "files": [{"path": "../secret"}]}), "files within the bundle"),
        (json.dumps({"name": "a", "version": "1", "files": [{"path": "/etc/passwd"}]}), "files within the bundle"),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / layout.MODEL_FILE).write_text(text)
    with pytest.raises(InputError, match=expected):
        Model.read(str(tmp_path))
