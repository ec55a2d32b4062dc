"""Cross-origin and DNS-rebinding checks: no page in a browser may load or unload models (CSRF protection).

Nor may a page of another origin call models without the browser's asking first, which this server answers with no.

A browser lets any page send simple requests to any host, this machine included. It names the page's origin in `Origin`,
and asks before it sends JSON. A page whose own name was made to resolve to this machine (DNS rebinding) may send
anything, but names itself in `Host`.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from server.addresses import is_loopback
from server.errors import InvalidArgumentError, PermissionDeniedError

_JSON = "application/json"
_SIMPLE = {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}


def check_origin(request: Request, listening_host: str) -> None:
    """Refuse what a page in a browser may have sent.

    Programs that send neither an origin nor a content type are served: every browser sends the former.

    Raises:
        PermissionDeniedError: from another origin, or for another host on a server that listens on loopback only.
        InvalidArgumentError: a body that is not JSON.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin is not None and _is_other(origin, host):
        raise PermissionDeniedError(f"expected no Origin, or that of this server, {host[:60]!r}, got {origin[:60]!r}")
    if host and is_loopback(listening_host) and not _is_local(host, listening_host):
        raise PermissionDeniedError(
            f"expected Host to be an address of this machine or {listening_host!r}, got {host[:60]!r}"
        )
    kind = request.headers.get("content-type")
    if kind is not None and _type(kind) != _JSON:
        raise InvalidArgumentError("content-type", f"expected {_JSON}, got {kind[:60]!r}")


def check_simple_request(request: Request) -> None:
    """Refuse what a page of another origin may send without asking (the Fetch standard's simple requests).

    Others need a preflight request, so that a proxy that allows origins (CORS) goes on to do so.

    Raises:
        PermissionDeniedError: of a content type of forms, from another origin.
    """
    origin = request.headers.get("origin")
    if origin is None or not _is_other(origin, request.headers.get("host", "")):
        return
    if _type(request.headers.get("content-type", "")) in _SIMPLE:
        expected = f"Content-Type: {_JSON} from pages of other origins"
        raise PermissionDeniedError(f"expected {expected}, got {request.headers.get('content-type', 'none')[:60]!r}")


def _is_other(origin: str, host: str) -> bool:
    return origin.partition("://")[2].lower() != host.lower()


def _type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_local(host: str, listening_host: str) -> bool:
    """Whether HOST or HOST:PORT names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == listening_host.lower() or is_loopback(name)
