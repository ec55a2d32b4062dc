"""Both transports against the rules of HTTP/2 and gRPC, frame by frame.

A deviation is asserted, too: once a library mends one, its test fails, and its line in `cases.py` goes.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.server.conftest import GOLDEN, TRANSPORTS, serving
from tests.server.transport.conformance.cases import FRAMES, HEADER_BLOCKS, Case
from tests.server.transport.conformance.grpc_cases import MESSAGES, REQUESTS, TIMEOUTS
from tests.server.transport.conformance.http2 import Connection

GROUPS = {
    "frame": FRAMES,
    "headers": HEADER_BLOCKS,
    "request": REQUESTS,
    "message": MESSAGES,
    "timeout": TIMEOUTS,
}
CASES = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}


@pytest.fixture(scope="module", params=TRANSPORTS)
def outcomes(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """What each case came to; all are sent before the first outcome is waited for, as core takes its time over some."""
    with serving(GOLDEN, transport=request.param, poll_seconds=0) as served, ExitStack() as stack:
        connections = {name: stack.enter_context(Connection(served)) for name in CASES}
        for name, connection in connections.items():
            connection.send(*CASES[name].frames)
        yield (
            request.param,
            {
                name: connection.outcome(" or ".join(CASES[name].expected(request.param)))
                for name, connection in connections.items()
            },
        )
        # Whatever they sent, the next client is served.
        with Connection(served) as honest:
            assert honest.call(1).status == "0"


@pytest.mark.parametrize("name", CASES)
def test_follows_the_rule_or_deviates_as_stated(outcomes: tuple[str, dict[str, str]], name: str) -> None:
    transport, came = outcomes
    assert came[name] in CASES[name].expected(transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stated_deviation_is_one(transport: str) -> None:
    def deviates(case: Case) -> bool:
        return not case.expected(transport) <= case.rule or case.expected(transport) == case.rule

    assert [name for name, case in CASES.items() if not deviates(case)] == []
