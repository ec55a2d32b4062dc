"""The real server with a leak planted on purpose: it keeps every request that it accepts."""

import sys
from typing import Any

from server import endpoint
from server.__main__ import main

KEPT: list[bytes] = []
_accept = endpoint.Endpoint.accept


def accept(self: endpoint.Endpoint, call: Any, method: Any, payload: bytes) -> None:
    KEPT.append(payload * 8)
    _accept(self, call, method, payload)


if __name__ == "__main__":
    endpoint.Endpoint.accept = accept
    sys.exit(main())
