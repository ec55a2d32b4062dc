"""Checks of the server over gRPC: provider, self-test, CUDA graphs, throughput, memory plateau."""

from collections import deque
from time import perf_counter

import grpc
import numpy as np

from bench import targets
from bench.gpu import graphs
from bench.gpu.graphs import Bound, Graph
from bench.gpu.outcome import Outcome, Setting, Unavailable, verdict
from bench.gpu.served import Served, serving
from bench.machine import calls_per_second, memory_mib
from bench.targets import Target, Work
from bundle import layout
from bundle.golden import agrees, max_error

ROWS = 256
IN_FLIGHT = 8
MINIMUM_SHARE = 0.85
ROUNDS = 5
PLATEAU_MIB = 8.0
# Requests above a caller's share of the queue would test limits, not the device.
FLAGS = ("--max-request-rows", str(ROWS), "--max-batch-rows", str(ROWS), "--poll-seconds", "0")


def provider(setting: Setting) -> list[Outcome]:
    """Whether every model of the repository serves on the device and has passed its golden vectors there."""
    expected = set(layout.model_names(setting.repository))
    with serving(setting, "--strict-readiness") as served:
        serves = {dict(labels)["model"] for labels in served.values("autoencoder_model_info")}
        providers, errors = served.providers(), served.values("autoencoder_self_test_max_error")
    return [
        verdict(
            "provider in use",
            f"{len(serves)} of {len(expected)} models serve, on {', '.join(sorted(providers))}",
            holds=serves == expected and providers == {setting.provider},
        ),
        verdict(
            "self-test of the server",
            f"golden vectors of {len(errors)} graphs, {max(errors.values(), default=float('nan')):.2g} off at most",
            holds=bool(errors),
        ),
    ]


def cuda_graphs(setting: Setting) -> list[Outcome]:
    """Answers of a server that captures CUDA graphs, against onnxruntime's on the CPU."""
    with serving(setting, *FLAGS, "--cuda-graphs") as served, _channel(served) as channel:
        return [_answers(graph, channel, setting) for graph in graphs.heavy(setting.repository)]


def _answers(graph: Graph, channel: grpc.Channel, setting: Setting) -> Outcome:
    largest, right = 0.0, True
    for rows in (1, 5, 64, 5, 200, 1):
        target, work = _target(graph, rows, setting)
        answer = target.read(_call(channel, target)(target.body, timeout=60)).reshape(work.expected.shape)
        largest = max(largest, max_error(answer, work.expected))
        right = right and agrees(answer, work.expected, graph.signature.golden_tolerance)
    return verdict(
        f"server with CUDA graphs: {graph.name}", f"answers {largest:.2g} off the CPU's at most", holds=right
    )


def throughput(setting: Setting) -> list[Outcome]:
    """Images a second through gRPC against a loop of onnxruntime with bound buffers, 256 rows at a time."""
    outcomes = []
    for graph in graphs.heavy(setting.repository):
        bound, batch = Bound(graphs.session(graph, setting), graph, ROWS, setting), graph.inputs(ROWS)
        offline = ROWS * calls_per_second(lambda: bound.run(batch), setting.seconds)  # noqa: B023 (run at once)
        with serving(setting, *FLAGS) as served, _channel(served) as channel:
            target, _ = _target(graph, ROWS, setting)
            served_rate = ROWS * _answers_per_second(channel, target, setting.seconds)
        share = served_rate / offline
        outcomes.append(
            verdict(
                f"throughput: {graph.name}, {ROWS} rows",
                f"{served_rate:,.0f} images/s through gRPC ({IN_FLIGHT} in flight, one Python client), {offline:,.0f} "
                f"offline: {share:.2f}, expected at least {MINIMUM_SHARE}",
                holds=share >= MINIMUM_SHARE,
            )
        )
    return outcomes


def _answers_per_second(channel: grpc.Channel, target: Target, seconds: float) -> float:
    call = _call(channel, target)
    for _ in range(5):
        call(target.body, timeout=60)
    began, count = perf_counter(), 0
    waiting = deque(call.future(target.body, timeout=60) for _ in range(IN_FLIGHT))
    while perf_counter() - began < seconds:
        waiting.popleft().result()
        waiting.append(call.future(target.body, timeout=60))
        count += 1
    spent = perf_counter() - began
    for each in waiting:
        each.result()
    return count / spent


def plateau(setting: Setting) -> list[Outcome]:
    """Memory after each of several rounds of changing batch sizes: it must not grow after the second."""
    sizes = np.random.default_rng(0).integers(1, ROWS + 1, 100)
    measured: list[dict[str, float]] = []
    with serving(setting, *FLAGS) as served, _channel(served) as channel:
        for _ in range(ROUNDS):
            for graph in graphs.heavy(setting.repository):
                for rows in sizes:
                    target, _ = _target(graph, int(rows), setting, expected=False)
                    _call(channel, target)(target.body, timeout=60)
            measured.append(_memory(served, setting))
    grown = {kind: measured[-1][kind] - measured[1][kind] for kind in measured[0]}
    memory = "; ".join(f"{kind} {', '.join(f'{each[kind]:,.0f}' for each in measured)} MiB" for kind in grown)
    return [
        verdict(
            "memory plateau",
            f"{len(sizes)} batch sizes a graph and round: {memory}; expected at most {PLATEAU_MIB:.0f} MiB more "
            "on the device from the second round to the last",
            holds=grown["card" if setting.device == "cuda" else "process"] <= PLATEAU_MIB,
        )
    ]


def _memory(served: Served, setting: Setting) -> dict[str, float]:
    used = {"process": memory_mib(served.process.pid)[0]}
    if setting.device == "cuda":
        cards = served.values("autoencoder_gpu_memory_used_bytes")
        if not cards:
            raise Unavailable("the server reports no GPU memory: install nvidia-ml-py")
        used["card"] = sum(cards.values()) / 2**20
    return used


def _channel(served: Served) -> grpc.Channel:
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(served.address, unlimited)


def _call(channel: grpc.Channel, target: Target) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(target.path)


def _target(graph: Graph, rows: int, setting: Setting, *, expected: bool = True) -> tuple[Target, Work]:
    """The request, and the CPU's answer if `expected`."""
    batch = graph.inputs(rows)
    right = np.empty(0, np.float32)
    if expected:
        cpu = Setting(setting.repository, setting.scratch, "cpu")
        right = graphs.plain(graphs.session(graph, cpu), graph, batch)[0]
    work = Work(graph.name, graph.model, graph.signature.name, batch, right)
    return targets.hourglass(work), work
