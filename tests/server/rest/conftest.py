"""A server with an HTTP port, and a client that uses http.client only."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.server.conftest import GOLDEN, Served, serving


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Rest:
    """Calls the HTTP port of a server."""

    served: Served
    address: str

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, path: str, document: Any, **headers: str) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.send("POST", path, body, headers)

    def send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        connection = HTTPConnection(self.address, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
        finally:
            connection.close()


@contextmanager
def serving_rest(repository: Path, **settings: object) -> Iterator[Rest]:
    """A server with a free HTTP port."""
    with serving(repository, **{"rest_port": 0, "poll_seconds": 0, **settings}) as served:
        yield Rest(served, f"127.0.0.1:{served.app.rest_port}")


@pytest.fixture(scope="session")
def rest() -> Iterator[Rest]:
    with serving_rest(GOLDEN) as started:
        yield started


def document(array: np.ndarray, name: str = "images", **fields: Any) -> dict[str, Any]:
    datatype = "UINT8" if array.dtype == np.uint8 else "FP32"
    given = {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.tolist()}
    return {"inputs": [given], **fields}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for a minute at most, counted so that a machine which stands still does not use it up."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it never came true")
