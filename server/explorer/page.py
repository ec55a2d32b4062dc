"""Routes of the explorer's static files; the page itself calls the documented REST routes and nothing else."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

STATIC = Path(__file__).parent / "static"
_INDEX = "index.html"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_NOT_FOUND = 404
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""No script or style within the page, and nothing from or to another host."""
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes() -> list[Route]:
    """The page at /explorer/, where / leads to; its files lie under the hash of all of them, and are kept for good."""
    files = _files()
    version = _hash(files)
    page = Page(files, version)
    return [
        # Relative, because a proxy may serve all of it under a prefix.
        Route("/", partial(_redirect, "explorer/")),
        Route("/explorer", partial(_redirect, "explorer/")),
        Route("/explorer/", page.index),
        Route("/explorer/static/{version}/{path:path}", page.file),
    ]


class Page:
    """The files of the page, in memory."""

    def __init__(self, files: Mapping[str, bytes], version: str) -> None:
        """Serve files by their path under `static/`."""
        self._files = files
        self._version = version
        self._packed = {path: gzip.compress(content, mtime=0) for path, content in files.items()}
        modules = sorted(path for path in files if path.endswith(".js"))
        links = "\n    ".join(f'<link rel="modulepreload" href="static/{version}/{path}">' for path in modules)
        text = files[_INDEX].decode()
        self._index = text.replace("{hash}", version).replace("{preload}", links).encode()

    async def index(self, request: Request) -> Response:
        """The page, which a browser asks for each time."""
        tag = f'"{self._version}"'
        headers = {**_HEADERS, "cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(self._index, media_type="text/html; charset=utf-8", headers=headers)

    async def file(self, request: Request) -> Response:
        """One of its files, which a browser asks for once."""
        path = request.path_params["path"]
        content, kind = self._files.get(path), _TYPES.get(Path(path).suffix)
        if content is None or kind is None or request.path_params["version"] != self._version:
            raise HTTPException(_NOT_FOUND, "The explorer has no such file: reload the page.")
        headers = {**_HEADERS, "cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["content-encoding"] = self._packed[path], "gzip"
        return Response(content, media_type=kind, headers=headers)


async def _redirect(to: str, request: Request) -> Response:
    del request
    return RedirectResponse(to)


def _files() -> dict[str, bytes]:
    return {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}


def _hash(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode())
        digest.update(files[path])
    return digest.hexdigest()[:16]
