"""The HTTP server: authorisation, TLS, disconnects, shutdown, process."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import numpy as np
import pytest

from server.transport import BindError
from tests.server.conftest import GOLDEN, copy_version, metric, pixels, serving, write_slow_denoiser
from tests.server.pki import Authority
from tests.server.rest.conftest import Rest, document, eventually, serving_rest

IMAGES = pixels(3)
INFER = "/v2/models/vae.encode/infer"


def test_control_is_off_unless_allowed(rest: Rest, repository: Path) -> None:
    assert rest.post("/v2/repository/models/vae/unload", b"").status == 403
    copy_version(repository, "vae", 1)
    with serving_rest(repository, model_control=True) as own:
        assert own.post("/v2/repository/models/vae/unload", b"").status == 200
        assert own.get("/v2/models/vae/ready").status == 503
        assert own.post("/v2/repository/models/vae/load", {"parameters": {"config": "{}"}}).status == 400
        assert own.post("/v2/repository/models/vae/load", b"").status == 200
        assert own.get("/v2/models/vae/ready").status == 200
        assert own.post("/v2/repository/models/nope/load", b"").status == 404


def test_a_parameter_of_control_whose_name_is_not_text_is_refused() -> None:
    with serving_rest(GOLDEN, model_control=True) as own:
        for action in ("load", "unload"):
            answer = own.post(f"/v2/repository/models/vae/{action}", b'{"parameters": {"\\ud800": 1}}')
            assert answer.status == 400
            assert "expected a JSON object" in answer.document["error"]
            labels = {"method": f"RepositoryModel{action.capitalize()}", "code": "INVALID_ARGUMENT"}
            assert metric(own.served, "autoencoder_requests_total", **labels) == 1
        assert own.get("/v2/models/vae/ready").status == 200


def test_tokens_hold_here_too(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("inference " + "t" * 20 + "\n")
    with serving_rest(GOLDEN, token_file=tokens) as own:
        assert own.get("/v2/health/ready").status == 200
        assert own.post(INFER, document(IMAGES)).status == 401
        assert own.post(INFER, document(IMAGES), Authorization="Bearer " + "t" * 20).status == 200


def test_tls_holds_here_too(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost").write(tmp_path)
    with serving_rest(GOLDEN, tls_certificate=certificate, tls_key=key) as own:
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        port = int(own.address.rpartition(":")[2])
        connection = HTTPSConnection("localhost", port, context=context, timeout=30)
        connection.request("GET", "/v2/health/live")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_handshake_that_does_not_come_is_waited_for_so_long_alone(tmp_path: Path) -> None:
    certificate, key = Authority().issue("localhost").write(tmp_path)
    with serving_rest(GOLDEN, tls_certificate=certificate, tls_key=key, rest_head_seconds=0.3) as own:
        # A minute without the limit.
        assert until_closed(own, b"") == b""


def test_headers_have_the_limit_of_metadata_in_one_piece_too() -> None:
    with serving_rest(GOLDEN, max_header_bytes=2000) as own:
        assert own.get("/v2/health/live", X_Much="a" * 1000).status == 200
        answer = own.get("/v2/health/live", X_Much="a" * 3000)
        assert answer.status == 431
        assert "at most 2000 bytes" in answer.document["error"]
        assert own.get("/v2/health/live").status == 200


@pytest.fixture
def slow(repository: Path) -> Iterator[Rest]:
    write_slow_denoiser(repository, layers=120)
    with serving_rest(repository) as own:
        yield own


def test_caller_who_leaves_takes_the_rows_along(slow: Rest) -> None:
    body = json.dumps(document(np.full((1, 32, 32, 1), 0.5, np.float32))).encode()
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    host, port = slow.address.split(":")

    def count(name: str, **labels: str) -> float:
        return metric(slow.served, f"autoencoder_requests_{name}", method="ModelInfer", **labels)

    # Once, unless this machine stands still until all are answered.
    for turn in range(1, 20):
        callers = [socket.create_connection((host, int(port))) for _ in range(12)]
        for caller in callers:
            caller.sendall(head + body)
        eventually(lambda got=12 * turn: count("in_flight") + count("total") >= got)
        for caller in callers:
            caller.close()
        eventually(lambda: count("in_flight") == 0)
        if count("total", code="CANCELLED"):
            break
    assert count("total", code="CANCELLED") > 0
    assert metric(slow.served, "autoencoder_queue_rows", model="slow") == 0


def test_drain_answers_what_came(repository: Path) -> None:
    write_slow_denoiser(repository, layers=120)
    with serving_rest(repository) as own:
        answers: list[int] = []
        asked = document(np.full((8, 32, 32, 1), 0.5, np.float32))
        caller = threading.Thread(target=lambda: answers.append(own.post("/v2/models/slow/infer", asked).status))
        caller.start()
        # Or it has been answered meanwhile.
        while caller.is_alive() and not metric(own.served, "autoencoder_requests_in_flight", method="ModelInfer"):
            time.sleep(0.002)
    caller.join()
    assert answers == [200]


def test_program_tells_its_port_or_what_it_lacks() -> None:
    start = f"from server.__main__ import main; sys.argv = ['x', '--repository', {str(GOLDEN)!r}, *'--port 0 "
    start += "--metrics-port 0 --rest-port 0'.split()]; sys.exit(main())"
    lacking = [sys.executable, "-c", f"import sys; sys.modules['uvicorn'] = None; {start}"]
    done = subprocess.run(lacking, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install '.[rest]' in a checkout" in done.stderr
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; {start}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        line = process.stdout.readline()
        address = line.split("rest=")[1].strip()
        connection = HTTPConnection(address, timeout=30)
        connection.request("GET", "/v2/health/live")
        assert connection.getresponse().read() == b'{"live":true}'
        connection.close()
        process.terminate()
        assert process.wait(30) == 0


def until_closed(rest: Rest, opening: bytes, drip: bytes = b"") -> bytes:
    """What comes back on a connection on which a byte comes now and then, until the server closes it."""
    host, port = rest.address.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=60) as caller, suppress(ConnectionError):
        caller.sendall(opening)
        caller.settimeout(0.02)
        # Half a minute, counted so that a machine which stands still does not use it up.
        for _ in range(1500):
            with suppress(TimeoutError):
                if not (data := caller.recv(65536)):
                    return answer
                answer += data
            caller.sendall(drip)
        pytest.fail("the server goes on waiting")
    return answer


HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def hasty() -> Iterator[Rest]:
    with serving_rest(GOLDEN, rest_head_seconds=1) as own:
        yield own


def test_a_request_that_does_not_come_is_waited_for_so_long_alone(hasty: Rest) -> None:
    slow: dict[str, tuple[bytes, bytes, list[bytes]]] = {
        "silent": (b"", b"", []),
        "method": (b"", b"G", [b"408"]),
        "header": (b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a", [b"408"]),
        "second request": (HEALTH, b"G", [b"200", b"408"]),
        "body of a refused one": (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"x", [b"405"]),
    }
    with ThreadPoolExecutor() as pool:
        answers = pool.map(lambda sent: until_closed(hasty, *sent), [sent[:2] for sent in slow.values()])
        for (case, (_, _, statuses)), answer in zip(slow.items(), answers, strict=True):
            assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == statuses, case


def test_a_request_that_takes_longer_than_its_head_may_is_served(hasty: Rest) -> None:
    body = json.dumps(document(IMAGES)).encode()
    host, port = hasty.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as caller:
        caller.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(1.5)
        caller.sendall(body)
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_callers_beyond_the_limit_are_refused() -> None:
    with serving_rest(GOLDEN, max_connections=3, rest_head_seconds=3600) as own:
        host, port = own.address.split(":")
        callers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(3)]
        assert until_closed(own, HEALTH) == b""
        callers.pop().close()
        end = time.monotonic() + 60
        while not until_closed(own, HEALTH.replace(b"Host", b"Connection: close\r\nHost")).startswith(b"HTTP/1.1 200 "):
            assert time.monotonic() < end
        for caller in callers:
            caller.close()


def test_port_in_use_is_reported(rest: Rest) -> None:
    with (
        pytest.raises(BindError, match="cannot listen"),
        serving(GOLDEN, rest_port=int(rest.address.rpartition(":")[2])),
    ):
        pass


def test_a_stopping_server_is_live_and_refuses_work(rest: Rest, repository: Path) -> None:
    copy_version(repository, "vae", 1)
    with serving_rest(repository, lame_duck_seconds=0) as own:
        own.served.app._endpoint.drain()
        assert own.get("/v2/health/live").status == 200
        assert own.post(INFER, document(IMAGES)).status == 503
        assert "stopping" in own.post(INFER, document(IMAGES)).document["error"]
    assert rest.post(INFER, document(IMAGES)).status == 200


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY each takes 40 ms, once the client's kernel delays its acknowledgements."""
    seconds: list[float] = []
    with serving_rest(GOLDEN) as own:
        connection = HTTPConnection(own.address, timeout=30)
        for _ in range(40):
            begun = time.monotonic()
            connection.request("GET", "/v2/health/live")
            connection.getresponse().read()
            seconds.append(time.monotonic() - begun)
        connection.close()
    assert sorted(seconds[20:])[5] < 0.03


class _Peers:
    """In place of TrustedProxies: remembers who called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def peer(self, peer: str, _: object) -> str:
        self.seen.append(peer)
        return peer


def test_a_caller_on_this_machine_is_not_believed_to_be_another_one(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = _Peers()
    monkeypatch.setattr(rest.served.app._endpoint, "proxies", peers)
    assert rest.get("/v2/models/vae.encode", X_Forwarded_For="192.0.2.7").status == 200
    assert [each.rpartition(":")[0] for each in peers.seen] == ["http:127.0.0.1"]
