"""Cross-origin and DNS-rebinding checks: no page in a browser may load or unload models (CSRF protection).

A browser lets any page send simple requests to any host, this machine included. It names the page's origin in `Origin`,
and asks before it sends JSON. A page whose own name was made to resolve to this machine (DNS rebinding) may send
anything, but names itself in `Host`.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from server.addresses import is_loopback
from server.errors import InvalidArgumentError, PermissionDeniedError

_JSON = "application/json"


def check_origin(request: Request, listening_host: str) -> None:
    """Refuse what a page in a browser may have sent.

    Programs that send neither an origin nor a content type are served: every browser sends the former.

    Raises:
        PermissionDeniedError: from another origin, or for another host on a server that listens on loopback only.
        InvalidArgumentError: a body that is not JSON.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise PermissionDeniedError(f"expected no Origin, or that of this server, {host[:60]!r}, got {origin[:60]!r}")
    if host and is_loopback(listening_host) and not _is_local(host, listening_host):
        raise PermissionDeniedError(
            f"expected Host to be an address of this machine or {listening_host!r}, got {host[:60]!r}"
        )
    kind = request.headers.get("content-type")
    if kind is not None and kind.partition(";")[0].strip().lower() != _JSON:
        raise InvalidArgumentError("content-type", f"expected {_JSON}, got {kind[:60]!r}")


def _is_local(host: str, listening_host: str) -> bool:
    """Whether HOST or HOST:PORT names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == listening_host.lower() or is_loopback(name)
