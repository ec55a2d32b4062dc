"""ORCA load reports for balancers: of each answer in its trailers, and on streams of the OpenRcaService."""

import asyncio
import threading
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport
from xds.service.orca.v3 import orca_pb2
from xds.service.orca.v3.orca_pb2 import OrcaLoadReportRequest

from server.calls.waiting import WaitingCalls
from server.errors import InvalidArgumentError, ServingError
from server.metrics.registry import Metrics
from server.models.table import ModelTable, ServedModel
from server.runtime.cpu import cores
from server.services.stream_limit import StreamLimit

Context: TypeAlias = "aio.ServicerContext[bytes, OrcaLoadReport]"
SERVICE = orca_pb2.DESCRIPTOR.services_by_name["OpenRcaService"].full_name
# A report covers this much time at least, and is the same until then: balancers weigh servers once a second or less.
_WINDOW_SECONDS = 1.0
_DEFAULT_INTERVAL_SECONDS = 10.0
_LONGEST_INTERVAL_SECONDS = 3600.0
# What counts against a server, so that one that fails or refuses quickly does not look idle.
_ERRORS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "RESOURCE_EXHAUSTED"})


class LoadMeter:
    """Measures the load since the last report, from counters that are kept anyway."""

    def __init__(self, metrics: Metrics, table: ModelTable) -> None:
        self._metrics = metrics
        self._table = table
        self._lock = threading.Lock()
        self._cores = cores()
        self._since = time.monotonic()
        self._counts = self._read()
        self._report = OrcaLoadReport()
        self._bytes = b""

    def report(self) -> OrcaLoadReport:
        """The load of the last second or more.

        `application_utilization` is the share of the time in which graphs ran, summed over graphs, and the rows that
        wait now in runs of the largest batch; above 1 requests wait. `cpu_utilization` is the process's share of its
        cores; `rps_fractional` and `eps` are requests and errors a second.
        """
        with self._lock:
            now = time.monotonic()
            seconds = now - self._since
            if seconds >= _WINDOW_SECONDS:
                counts = self._read()
                requests, errors, cpu, runs = (
                    max(new - old, 0.0) / seconds for new, old in zip(counts, self._counts, strict=True)
                )
                self._since, self._counts = now, counts
                self._report = OrcaLoadReport(
                    cpu_utilization=cpu / self._cores,
                    rps_fractional=requests,
                    eps=errors,
                    application_utilization=runs + waiting_runs(self._table.all()),
                )
                self._bytes = self._report.SerializeToString()
            return self._report

    def trailer(self) -> bytes:
        """The report for `endpoint-load-metrics-bin`; cheap until the next one is due."""
        if time.monotonic() - self._since >= _WINDOW_SECONDS:
            self.report()
        return self._bytes

    def _read(self) -> tuple[float, float, float, float]:
        """Requests, errors, seconds of CPU and of graph runs so far."""
        metrics = self._metrics
        with metrics.lock:
            requests = sum(metrics.requests.values())
            errors = sum(count for labels, count in metrics.requests.items() if labels[-1] in _ERRORS)
            runs = sum(histogram.total for histogram in metrics.run_seconds.series.values())
        return requests, errors, time.process_time(), runs


class LoadReportService:
    """Streams reports to balancers that ask for them, without a token, as health does; their number is limited."""

    name = SERVICE

    def __init__(self, meter: LoadMeter, max_streams: int, max_connection_streams: int) -> None:
        self._meter = meter
        self._limit = StreamLimit(max_streams, max_connection_streams, "There are too many streams of load reports.")
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: WaitingCalls

    async def attach(self, _: asyncio.AbstractEventLoop, server: aio.Server, waiting: WaitingCalls) -> None:
        """Serve as a service of `server`, with its limits of calls that wait for a message."""
        self._waiting = waiting
        # A stream of requests too, because it reads its message itself.
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._stream,  # pyright: ignore[reportArgumentType] (aio takes coroutines)
            response_serializer=OrcaLoadReport.SerializeToString,
        )
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"StreamCoreMetrics": handler})])

    def detach(self) -> None:
        """End the streams, on the loop."""
        for task in list(self._tasks):
            task.cancel()

    async def _stream(self, _: object, context: Context) -> None:
        try:
            request = _request(await self._waiting.read_only(context, context.peer(), "StreamCoreMetrics"))
        except ServingError as error:
            await context.abort(error.code, error.message)
        async with self._limit.counted(context):
            task = asyncio.create_task(self._send(context, _interval(request)))
            self._tasks.add(task)
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()
                self._tasks.discard(task)
        if not task.cancelled():
            task.result()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")

    async def _send(self, context: Context, interval_seconds: float) -> None:
        while True:
            await context.write(self._meter.report())
            await asyncio.sleep(interval_seconds)


def waiting_runs(models: Iterable[ServedModel]) -> float:
    """Rows that wait now, in runs of the largest batch of their graphs, side by side where graphs run so."""
    batchers = [batcher for served in models for batcher in served.batchers.values()]
    return sum(each.queue.rows / (each.policy.max_rows * each.policy.concurrent_runs) for each in batchers)


def _interval(request: OrcaLoadReportRequest) -> float:
    """Seconds between reports, within what makes sense."""
    asked = request.report_interval.ToNanoseconds() / 1e9 if request.HasField("report_interval") else 0.0
    return min(max(asked or _DEFAULT_INTERVAL_SECONDS, _WINDOW_SECONDS), _LONGEST_INTERVAL_SECONDS)


def _request(payload: bytes) -> OrcaLoadReportRequest:
    try:
        return OrcaLoadReportRequest.FromString(payload)
    except DecodeError as error:
        raise InvalidArgumentError("request", f"expected an OrcaLoadReportRequest: {error}") from error
