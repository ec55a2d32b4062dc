"""Download the IDX files of MNIST or Fashion-MNIST: resumable, and kept only if the checksum matches."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from training.data import idx
from training.errors import DataError

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}
_TIMEOUT_SECONDS = 30
_CHUNK_BYTES = 1 << 20
PARTIAL_CONTENT, RANGE_NOT_SATISFIABLE = 206, 416


def fetch(kind: str, folder: Path, url: str = "") -> None:
    """Put the four files of `mnist` or `fashion-mnist` into `folder`, from `url` or the known mirrors.

    Files that are there already are left alone; a partial one is continued.

    Raises:
        DataError: no such data set, no mirror answered, or a file has another checksum.
    """
    if kind not in MIRRORS:
        raise DataError(f"nothing to download for {kind!r}: only {' and '.join(MIRRORS)} have mirrors")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot put files into {folder}: {error}; give a folder with --data-dir") from None
    for name in idx.FILES:
        if not ((folder / name).exists() or (folder / f"{name}.gz").exists()):
            _fetch_any((url,) if url else MIRRORS[kind], folder / f"{name}.gz", idx.CHECKSUMS[kind])


def _fetch_any(mirrors: tuple[str, ...], target: Path, checksums: idx.Checksums) -> None:
    failures = []
    for mirror in mirrors:
        try:
            _fetch_one(f"{mirror.rstrip('/')}/{target.name}", target, checksums)
        except (DataError, OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {error}")
        else:
            return
    raise DataError(f"cannot download {target.name}; " + "; ".join(failures) + "; give another --download URL")


def _fetch_one(url: str, target: Path, checksums: idx.Checksums) -> None:
    partial = target.with_name(f"{target.name}.part")
    _continue(url, partial)
    try:
        idx.check(partial, target.name.removesuffix(".gz"), checksums)
    except DataError:
        # What is wrong at the end was wrong at the start: the next attempt starts from the beginning.
        partial.unlink()
        raise
    os.replace(partial, target)  # noqa: PTH105 (the one call that replaces on every system)


def _continue(url: str, partial: Path) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 (the user's URL)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (the user's URL)
            mode = "ab" if answer.status == PARTIAL_CONTENT else "wb"
            expected = int(answer.headers.get("Content-Length", -1))
            got = _copy(answer, partial, mode)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != RANGE_NOT_SATISFIABLE:  # else all bytes are here already
            raise
        return
    if 0 <= got < expected:
        raise DataError(f"the connection broke after {got} of {expected} bytes; the same command continues")


def _copy(answer: http.client.HTTPResponse, partial: Path, mode: str) -> int:
    got = 0
    with partial.open(mode) as file:
        while chunk := answer.read1(_CHUNK_BYTES):
            got += file.write(chunk)
    return got
