"""The model of a job: the files of a bundle, carried to the workers, and the hash that the rows name it by."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from bundle import layout
from bundle.signing import MAX_SIGNING_BYTES
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
    def read(cls, url: str, max_bytes: int) -> "Model":
        """Read <repository>/<name>/<version>, a folder or a URL.

        Raises:
            InputError: it holds no model.json, its files have more than `max_bytes` together or than model.json says.
        """
        store = Store(url)
        described = store.read_limited(layout.MODEL_FILE, layout.MAX_MODEL_FILE_BYTES)
        if described is None:
            raise InputError(f"{url}: expected the folder of a version, <name>/<version>, with a model.json in it")
        try:
            fields = json.loads(described)
            name, version = str(fields["name"]), str(fields["version"])
            listed = {str(file["path"]): int(file["size_bytes"]) for file in fields["files"]}
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(f"{url}: expected a model.json of a bundle: {error!r}") from error
        plain = layout.NAME_PATTERN.fullmatch(name) and layout.VERSION_PATTERN.fullmatch(version)
        if not plain or not all(map(layout.stays_inside, listed)):
            raise InputError(f"{url}: expected a name, a version and files within the bundle in model.json")
        for path, size in listed.items():
            if size < 0:
                raise InputError(f"{url}: expected sizes from 0 in model.json, got {size} of {path}: export it again")
        if sum(listed.values()) > max_bytes:
            raise InputError(
                f"{url}: expected files of at most {max_bytes} bytes together, got {sum(listed.values())}: "
                "raise HOURGLASS_MAX_MODEL_BYTES if there is memory for three times as much"
            )
        wanted = {layout.SIGNING_FILE: MAX_SIGNING_BYTES, **listed}
        found = {file: data for file, size in wanted.items() if (data := store.read_limited(file, size)) is not None}
        return cls(name, version, hashlib.sha256(described).hexdigest(), {layout.MODEL_FILE: described, **found})

    def write(self, repository: Path) -> None:
        """Write it into an empty repository.

        Raises:
            InputError: no folder can hold a file of this name, or the disk is full.
        """
        for name, data in self.files.items():
            path = repository / self.name / self.version / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            except (OSError, ValueError) as error:
                # ValueError: a name that is no Unicode.
                why = getattr(error, "strerror", error)
                raise InputError(f"expected a bundle that {repository} can hold: {why}", f"{path}") from error
