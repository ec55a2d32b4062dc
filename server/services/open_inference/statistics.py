"""The statistics extension: exact counts and durations of each graph, from the counts behind the metrics."""

from inference import open_inference_pb2 as pb

from server.calls.call import Call
from server.metrics.registry import Metrics
from server.metrics.run_statistics import DurationTotal, RunStatistics
from server.models.table import ServedModel
from server.services.open_inference.graphs import Graph, GraphTable


class Statistics:
    """ModelStatistics."""

    def __init__(self, graphs: GraphTable, metrics: Metrics) -> None:
        self._graphs = graphs
        self._metrics = metrics

    def answer(self, call: Call, request: pb.ModelStatisticsRequest) -> None:
        """Statistics of the named graph; a plain model name selects all its graphs, no name all models."""
        response = pb.ModelStatisticsResponse()
        for served, graph in self._chosen(call, request):
            key = (served.name, served.version, graph.signature.name)
            with self._metrics.lock:
                response.model_stats.append(_statistics(graph.name, served.version, self._metrics.statistics[key]))
        call.answer(response.SerializeToString())

    def _chosen(self, call: Call, request: pb.ModelStatisticsRequest) -> list[tuple[ServedModel, Graph]]:
        graphs = self._graphs.all()
        if not request.name:
            return graphs
        named = self._graphs.get(request.name, request.version)
        chosen = call.served = named.served
        plain = "." not in request.name
        return [
            (served, graph)
            for served, graph in graphs
            if served.name == chosen.name
            and (plain or graph.name == named.name)
            and (not request.version or served is chosen)
        ]


def _statistics(name: str, version: str, record: RunStatistics) -> pb.ModelStatistics:
    runs = DurationTotal(
        sum(times.count for times in record.runs.values()), sum(times.ns for times in record.runs.values())
    )
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=record.last_run_ms,
        inference_count=sum(rows * times.count for rows, times in record.runs.items()),
        execution_count=runs.count,
        inference_stats=pb.InferStatistics(
            success=_duration(DurationTotal(record.queue.count, record.queue.ns + record.compute.ns)),
            fail=_duration(DurationTotal(record.dropped, 0)),
            queue=_duration(record.queue),
            compute_input=_duration(DurationTotal(record.compute.count, 0)),
            compute_infer=_duration(record.compute),
            compute_output=_duration(DurationTotal(record.compute.count, 0)),
            cache_hit=_duration(DurationTotal(0, 0)),
            cache_miss=_duration(DurationTotal(0, 0)),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(DurationTotal(times.count, 0)),
                compute_infer=_duration(times),
                compute_output=_duration(DurationTotal(times.count, 0)),
            )
            for rows, times in sorted(record.runs.items())
        ],
    )


def _duration(times: DurationTotal) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=times.count, ns=times.ns)
