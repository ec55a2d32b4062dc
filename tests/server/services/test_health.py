"""Watchers of grpc.health.v1: told of every change, several at a time, and of the end."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from server.calls.waiting import WaitingCalls
from server.services.health import HealthService
from tests.server.conftest import GOLDEN, copy_version, serving
from tests.server.models.test_manager import eventually

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


def test_watchers_see_a_model_come_and_go(repository: Path, transport: str) -> None:
    copy_version(repository, "vae", 1)
    with serving(repository, transport=transport, poll_seconds=0) as served:
        health = HealthStub(served.channel)
        gone = health.Watch(HealthCheckRequest(service="fc-ae"), timeout=30)
        watches = [health.Watch(HealthCheckRequest(service="fc-ae"), timeout=30) for _ in range(2)]
        assert [next(watch).status for watch in (gone, *watches)] == [UNKNOWN] * 3
        # One who leaves takes nobody along.
        gone.cancel()
        copy_version(repository, "fc-ae", 1)
        assert served.app.manager.load("fc-ae") is None
        # Whoever looks in time sees that it is being loaded.
        statuses = [next(status.status for status in watch if status.status != NOT_SERVING) for watch in watches]
        assert statuses == [SERVING] * 2
        served.app.manager.unload("fc-ae")
        assert [next(watch).status for watch in watches] == [UNKNOWN] * 2


def test_watchers_are_told_the_end(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        watch = HealthStub(served.channel).Watch(HealthCheckRequest(), timeout=30)
        assert next(watch).status == SERVING
        served.app.stop()
        served.app.stop = lambda: True  # it has stopped already
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in ended.value.details()
    # It is no accident, and looks like none. Only grpc may still have an event for the loop of an earlier server.
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    others = [record for record in errors if not (record.exc_info and "loop is closed" in str(record.exc_info[1]))]
    assert others == []


@pytest.mark.parametrize("moment", range(1, 7))
def test_statuses_may_be_set_while_the_transport_closes(moment: int) -> None:
    """Detached before any line of `update`, as another thread may do."""
    health = HealthService(1, 1)
    lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        nonlocal lines
        if frame.f_code is not HealthService.update.__code__:
            return None
        lines += event == "line"
        if lines == moment:
            health.detach()
        return trace

    async def update() -> None:
        await health.attach(asyncio.get_running_loop(), aio.server(), WaitingCalls(1, 1))
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            health.update({"": True})
        finally:
            sys.settrace(before)

    asyncio.run(update())
    assert lines


def test_watches_are_limited_in_all_and_per_connection(transport: str) -> None:
    limits = {"max_health_watches": 4, "max_connection_health_watches": 3}
    with serving(GOLDEN, transport=transport, poll_seconds=0, **limits) as served:
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(served.address, own) as one, grpc.insecure_channel(served.address, own) as two:
            health = HealthStub(one)
            watches = [health.Watch(HealthCheckRequest(), timeout=60) for _ in range(3)]
            assert [next(watch).status for watch in watches] == [SERVING] * 3
            # Behind the native transport there is one connection for all.
            more = health.Watch(HealthCheckRequest(), timeout=60)
            if transport == "grpcio":
                assert more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                more = HealthStub(two).Watch(HealthCheckRequest(), timeout=60)
            assert next(more).status == SERVING
            assert HealthStub(two).Watch(HealthCheckRequest(), timeout=60).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert health.Check(HealthCheckRequest(), timeout=60).status == SERVING
            watches[0].cancel()
            eventually(lambda: _status_of_watch(two) == SERVING)


def _status_of_watch(channel: grpc.Channel) -> object:
    watch = HealthStub(channel).Watch(HealthCheckRequest(), timeout=60)
    try:
        return next(watch).status
    except grpc.RpcError as error:
        return error.code()
    finally:
        watch.cancel()
