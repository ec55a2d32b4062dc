"""A limit on the headers of an HTTP request: the parser's own holds only for a head that comes in several pieces."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_TOO_LARGE = 431


def within(application: ASGIApp, limit_bytes: int) -> ASGIApp:
    """The application, for requests whose headers are not larger."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size <= limit_bytes:
            await application(scope, receive, send)
            return
        refusal = {"error": f"wanted headers of {limit_bytes} bytes at most, got {size}: send less"}
        # The body is not read: what comes of it must not be taken for another request.
        await JSONResponse(refusal, _TOO_LARGE, {"connection": "close"})(scope, receive, send)

    return serve
