"""Numerical checks of the graphs: parity, batch invariance, convolution search, bound buffers, CUDA graphs."""

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.gpu import graphs
from bench.gpu.graphs import Bound, Graph
from bench.gpu.outcome import Outcome, Setting, verdict
from bench.machine import calls_per_second
from bundle.golden import agrees, max_error

SIZES = (1, 3, 17, 64, 100, 256)
BUCKETS = ((1, 1), (8, 5), (64, 33), (256, 129))
"""Rows of a bucket, and the smallest batch padded to it."""


def parity(setting: Setting) -> list[Outcome]:
    """Golden vectors and a large batch against the CPU, TF32 off; TF32 on for comparison."""
    return [_parity(graph, setting) for graph in graphs.graphs(setting.repository)]


def _parity(graph: Graph, setting: Setting) -> Outcome:
    made, allowed, case = graphs.session(graph, setting), graph.signature.golden_tolerance, graph.golden
    golden: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for each in case.cases[graph.signature.name]:
        outputs = graphs.plain(made, graph, each.inputs[graph.signature.inputs[0].name])
        golden += zip(outputs, [each.outputs[spec.name] for spec in graph.signature.outputs], strict=True)
    batch = graph.inputs(SIZES[-1])
    reference = graphs.plain(graphs.session(graph, replace(setting, device="cpu")), graph, batch)
    batched = list(zip(graphs.plain(made, graph, batch), reference, strict=True))
    tf32 = zip(graphs.plain(graphs.session(graph, setting, use_tf32="1"), graph, batch), reference, strict=True)
    return verdict(
        f"parity: {graph.name}",
        f"golden vectors {_error(golden):.2g} off, {len(batch)} rows {_error(batched):.2g} off the CPU's; "
        f"with TF32 {_error(tf32):.2g}",
        holds=all(agrees(got, right, allowed) for got, right in golden + batched),
    )


def _error(pairs: Any) -> float:  # noqa: ANN401 (pairs of arrays)
    return max(max_error(got, right) for got, right in pairs)


def invariance(setting: Setting) -> list[Outcome]:
    """Whether a row depends on the others of its bucket, padded as by the server; between buckets for comparison."""
    return [_invariance(graph, setting) for graph in graphs.graphs(setting.repository)]


def _invariance(graph: Graph, setting: Setting) -> Outcome:
    made, batch = graphs.session(graph, setting), graph.inputs(BUCKETS[-1][0])
    within, between, first = 0, 0.0, None
    for rows, least in BUCKETS:
        bound = Bound(made, graph, rows, setting)
        full = bound.run(batch[:rows])
        padded = np.zeros_like(batch[:rows])
        padded[:least] = batch[:rows][:least]
        within += sum(not np.array_equal(a[:least], b[:least]) for a, b in zip(full, bound.run(padded), strict=True))
        first = first or full
        between = max(between, _error(zip([a[:1] for a in full], first, strict=True)))
    return verdict(
        f"batch invariance: {graph.name}",
        f"buckets {', '.join(str(rows) for rows, _ in BUCKETS)}: outputs that change with the other rows of a bucket: "
        f"{within}; between buckets a row changes by {between:.2g} at most",
        holds=within == 0,
    )


def search(setting: Setting) -> list[Outcome]:
    """HEURISTIC, which the server uses, against EXHAUSTIVE with batch sizes that change from run to run."""
    return [_search(graph, setting) for graph in graphs.heavy(setting.repository)]


def _search(graph: Graph, setting: Setting) -> Outcome:
    first, steady, outputs = {}, {}, {}
    for kind in ("HEURISTIC", "EXHAUSTIVE"):
        made = graphs.session(graph, setting, cudnn_conv_algo_search=kind)
        graphs.plain(made, graph, graph.inputs(2))  # the cost of any first run: handles, libraries
        first[kind] = _pass(made, graph)
        steady[kind] = float(np.median([_pass(made, graph) for _ in range(5)]))
        outputs[kind] = graphs.plain(made, graph, graph.inputs(SIZES[-1]))
    pairs = list(zip(outputs["HEURISTIC"], outputs["EXHAUSTIVE"], strict=True))
    timings = ", ".join(
        f"{kind} {first[kind] * 1e3:.1f} ms the first time and {steady[kind] * 1e3:.2f} ms after" for kind in first
    )
    return verdict(
        f"search for a convolution: {graph.name}",
        f"batches of {', '.join(map(str, SIZES))} in turn: {timings}; outputs differ by {_error(pairs):.2g}",
        holds=all(agrees(got, right, graph.signature.golden_tolerance) for got, right in pairs),
    )


def _pass(made: Any, graph: Graph) -> float:  # noqa: ANN401
    began = perf_counter()
    for rows in SIZES:
        graphs.plain(made, graph, graph.inputs(rows))
    return perf_counter() - began


def binding(setting: Setting) -> list[Outcome]:
    """Plain runs, bound buffers, and bound buffers with a CUDA graph captured: equal answers, time of each."""
    return [_binding(graph, rows, setting) for graph in graphs.heavy(setting.repository) for rows in (1, 256)]


def _binding(graph: Graph, rows: int, setting: Setting) -> Outcome:
    made, batch = graphs.session(graph, setting), graph.inputs(rows)
    bound = Bound(made, graph, rows, setting)
    captured = Bound(graphs.session(graph, setting, enable_cuda_graph="1"), graph, rows, setting)
    modes = {
        "plain": lambda: graphs.plain(made, graph, batch),
        "bound": lambda: bound.run(batch),
        "CUDA graph": lambda: captured.run(batch),
    }
    outputs = {way: _stale_then(run, captured, bound, batch) for way, run in modes.items()}
    speeds = {way: calls_per_second(run, setting.seconds / 3) for way, run in modes.items()}
    pairs = [pair for way in ("bound", "CUDA graph") for pair in zip(outputs[way], outputs["plain"], strict=True)]
    timings = ", ".join(f"{way} {1e6 / speed:.0f} µs a run" for way, speed in speeds.items())
    return verdict(
        f"bound buffers and CUDA graphs: {graph.name}, {rows} rows",
        f"{timings}; outputs differ by {_error(pairs):.2g} at most",
        holds=all(agrees(got, right, graph.signature.golden_tolerance) for got, right in pairs),
    )


def _stale_then(run: Any, captured: Bound, bound: Bound, batch: NDArray[Any]) -> list[NDArray[Any]]:  # noqa: ANN401
    """Run other rows first: a captured graph that replays stale input would return their answer."""
    for each in (captured, bound):
        for _ in range(2):
            each.run(np.zeros_like(batch))
    return run()
