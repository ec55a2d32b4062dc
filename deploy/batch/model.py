"""The model of a job: the files of a bundle, carried to the workers, and the hash that the rows name it by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle import layout
from deploy.batch.errors import InputError
from deploy.batch.storage import Store


@dataclass(frozen=True)
class Model:
    """A bundle in memory; what is in it is checked when it is loaded."""

    name: str
    version: str
    sha256: str
    """Of model.json, which lists the SHA-256 of every other file."""
    files: dict[str, bytes]

    @classmethod
    def read(cls, url: str) -> "Model":
        """Read <repository>/<name>/<version>, a folder or a URL.

        Raises:
            InputError: it holds no model.json.
        """
        store = Store(url)
        described = store.read(layout.MODEL_FILE)
        if described is None:
            raise InputError(f"{url}: expected the folder of a version, <name>/<version>, with a model.json in it")
        try:
            fields = json.loads(described)
            name, version = str(fields["name"]), str(fields["version"])
            listed = [str(file["path"]) for file in fields["files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{url}: expected a model.json of a bundle: {error!r}") from error
        plain = layout.NAME_PATTERN.fullmatch(name) and layout.VERSION_PATTERN.fullmatch(version)
        if not plain or any(".." in PurePosixPath(path).parts or path.startswith("/") for path in listed):
            raise InputError(f"{url}: expected a name, a version and files within the bundle in model.json")
        wanted = [layout.MODEL_FILE, layout.SIGNING_FILE, *listed]
        found = {file: data for file in wanted if (data := store.read(file)) is not None}
        return cls(name, version, hashlib.sha256(described).hexdigest(), found)

    def write(self, repository: Path) -> None:
        """Write it into an empty repository."""
        for name, data in self.files.items():
            path = repository / self.name / self.version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
