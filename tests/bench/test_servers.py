"""Start, call and measure servers of this environment, with a load generator in Python."""

from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from bench import load_generators, rounds, server_list, servers, targets
from bench.load_generators import Answers, Load, LoadError
from bench.servers import Running, Server, ServerError
from bench.targets import Target, Work
from tests.server.conftest import GOLDEN, graph_run, pixels

IMAGE = pixels(1)
ENCODE = Work("encode 1 image", "vae", "encode", IMAGE, graph_run("encode", "vae", IMAGE)[0])


def one(name: str) -> Server:
    return next(each for each in server_list.all_servers(GOLDEN) if each.name == name)


@pytest.fixture
def echo(tmp_path: Path):  # noqa: ANN201 (a generator)
    running = servers.start(one("grpc.aio echo"), [ENCODE], tmp_path)
    yield running
    running.stop()
    assert running.process.returncode is not None


def by_hand(address: str, target: Target, load: Load, seconds: float) -> Answers:
    """A load generator: one caller, in Python."""
    del load
    end, latencies = perf_counter() + seconds, []
    while perf_counter() < end:
        began = perf_counter()
        assert len(servers.ask(address, target)) >= target.least_bytes
        latencies.append((perf_counter() - began) * 1e3)
    p50, p99 = np.quantile(latencies, (0.5, 0.99))
    return Answers(len(latencies) / seconds, p50, p99, len(latencies))


@pytest.mark.parametrize(
    "name",
    [
        "hourglass native",
        "hourglass native, tcmalloc",
        "hourglass grpcio",
        "hourglass grpcio, Stream",
        "hourglass native, ModelInfer",
        "pygrpc-native echo",
    ],
)
def test_servers_of_this_environment_answer_correctly(name: str, tmp_path: Path) -> None:
    running = servers.start(one(name), [ENCODE], tmp_path)
    try:
        assert 0 < running.start_seconds < 60
        assert running.idle_mib > 10
    finally:
        running.stop()


def test_series_is_measured_in_turns(echo: Running) -> None:
    series = rounds.Series(ENCODE, Load(callers=1), "h2load", by_hand)
    (result,) = rounds.run(series, [echo], rounds.Pace(2, 0.1, 4))
    assert (result.server, len(result.rounds), result.failures) == ("grpc.aio echo", 2, [])
    assert all(each.per_second > 10 and each.memory_mib > 10 for each in result.rounds)
    low, high = result.spread("p50_ms")
    assert low <= result.middle("p50_ms") <= high


def test_failed_rounds_are_kept_as_failures(echo: Running) -> None:
    def broken(*_: object) -> Answers:
        raise LoadError("no answers")

    (result,) = rounds.run(rounds.Series(ENCODE, Load(callers=1), "h2load", broken), [echo], rounds.Pace(1, 0.1, 4))
    assert (result.rounds, result.failures) == ([], ["no answers"] * (1 + 4))


def test_wrong_answer_is_an_error(tmp_path: Path) -> None:
    wrong = replace(ENCODE, expected=ENCODE.expected + 1)
    with pytest.raises(ServerError, match="answers encode 1 image with an error of 1"):
        servers.start(one("hourglass native"), [wrong], tmp_path)


def test_server_that_exits_is_an_error(tmp_path: Path) -> None:
    broken = replace(one("grpc.aio echo"), command=["false"])
    with pytest.raises(ServerError, match="does not answer"):
        servers.start(broken, [ENCODE], tmp_path)


def test_cpp_client_is_for_grpc_only() -> None:
    mosec, native = one("mosec"), one("hourglass native")
    assert [mosec.can(ENCODE, client) for client in ("C++ client", "h2load")] == [False, True]
    assert [native.can(ENCODE, client) for client in ("C++ client", "h2load")] == [True, True]
    stream = one("hourglass grpcio, Stream")
    assert [stream.can(ENCODE, client) for client in ("C++ client", "h2load")] == [True, False]
    assert not stream.can(ENCODE, "C++ client", closed_loop=False)


def test_frame_is_grpcs() -> None:
    assert load_generators.framed(b"abc") == b"\0\0\0\0\3abc"


def test_http_bodies_carry_the_image() -> None:
    target = targets.base64_http(ENCODE, "/encode", lambda body: {"body": body}, lambda answer: answer["body"])
    assert target.content_type == "application/json"
    assert targets.raw_http(ENCODE, "/encode").body == IMAGE.tobytes()
