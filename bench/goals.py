"""Performance goals: our figure over a peer's, in the same run and with the same client."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.results import Results

NATIVE, GRPCIO = "hourglass native", "hourglass grpcio"
IMAGE = f"{NATIVE}, tcmalloc"
BARE = f"{NATIVE}, uncounted"
BFLOAT16, ENVOY = f"{NATIVE}, bfloat16", f"{NATIVE}, Envoy with TLS"
INFER, STREAM = f"{NATIVE}, ModelInfer", f"{GRPCIO}, Stream"
ONE, MANY, NOISY = "encode 1 image", "encode 64 images", "denoise 1 image"
RATE, P50, P99, CPU = "per_second", "p50_ms", "p99_ms", "server_microseconds"
NAMES = {RATE: "requests a second", P50: "median latency", P99: "99th percentile", CPU: "server CPU per request"}


@dataclass(frozen=True)
class Goal:
    """`ours` over `theirs` in one measure: rates at least the aim, times at most; `floor` is the hard limit."""

    ours: str
    theirs: str
    work: str
    load: str
    measure: str
    aim: float
    floor: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether a larger ratio is better: for rates, not for times."""
        return self.measure == RATE

    def ratio(self, results: Results, client: str) -> float | None:
        """None if one of the two was not measured with this client."""
        ours, theirs = (
            results.middle(name, self.work, self.load, client, self.measure) for name in (self.ours, self.theirs)
        )
        return None if ours is None or theirs is None else ours / theirs

    def verdict(self, ratio: float) -> str:
        """Reached, above the floor, or missed."""
        if self._holds(ratio, self.aim):
            return "reached"
        return "above the floor" if self.floor is not None and self._holds(ratio, self.floor) else "missed"

    def _holds(self, ratio: float, bound: float) -> bool:
        return ratio >= bound if self.more_is_better else ratio <= bound


_OURS = (
    ("Triton", ONE, "64 callers", RATE, 2.5, 2.0),
    ("OpenVINO", ONE, "64 callers", RATE, 1.5, 1.0),
    ("C++ echo", ONE, "64 callers", RATE, 0.75, 0.5),
    ("MLServer", ONE, "64 callers", RATE, 15, None),
    ("mosec", ONE, "64 callers", RATE, 1.0, 0.8),
    ("Triton", ONE, "8 callers", RATE, 2.0, 1.6),
    ("Triton", ONE, "1 callers", P50, 0.7, None),
    ("Triton", ONE, "64 callers", P99, 0.5, 0.65),
    ("Triton", ONE, "64 callers", CPU, 0.35, None),
    ("Triton", MANY, "4 callers", RATE, 2.5, 2.0),
    ("Triton", NOISY, "64 callers", RATE, 1.3, None),
    ("mosec", NOISY, "64 callers", RATE, 1.0, None),
)
GOALS = (
    *(Goal(ours, *goal) for goal in _OURS for ours in (IMAGE, NATIVE)),
    Goal(BFLOAT16, "Triton", NOISY, "64 callers", RATE, 1.5),
    Goal(GRPCIO, "grpc.aio echo", ONE, "64 callers", RATE, 1.2, 0.8),
    Goal(ENVOY, NATIVE, ONE, "64 callers", RATE, 0.6),
    Goal(STREAM, GRPCIO, ONE, "64 callers", RATE, 1.5),
    Goal("OpenVINO, stubbed", "C++ echo", ONE, "64 callers", RATE, 0.9),
    Goal(INFER, NATIVE, ONE, "64 callers", RATE, 0.8),
    Goal(NATIVE, BARE, ONE, "64 callers", RATE, 0.95),
    Goal(NATIVE, BARE, ONE, "64 callers", CPU, 1.05),
)
START_SECONDS, IDLE_MIB = 1.0, 120.0


def table(results: Results, clients: tuple[str, ...]) -> Iterator[str]:
    """The goals and the outcome of each, as a Markdown table."""
    yield f"| ours over theirs | work | aim | {' | '.join(clients)} |"
    yield "| --- | --- | --- |" + " --- |" * len(clients)
    for goal in GOALS:
        aim = f"{'≥' if goal.more_is_better else '≤'} {goal.aim:g}" + (f" ({goal.floor:g})" if goal.floor else "")
        outcomes = [_outcome(goal, goal.ratio(results, client)) for client in clients]
        work = f"{goal.work}, {goal.load.replace('1 callers', '1 caller')}: {NAMES[goal.measure]}"
        yield f"| {goal.ours} / {goal.theirs} | {work} | {aim} | {' | '.join(outcomes)} |"
    if ours := results.server(NATIVE):
        yield from (
            f"| {NATIVE} | {what} | ≤ {bound:g} {unit} | {value:.2f} {unit}: "
            f"{'reached' if value <= bound else 'missed'} |" + " |" * (len(clients) - 1)
            for what, bound, unit, value in (
                ("start to first answer, one model", START_SECONDS, "s", results.record["alone_seconds"]),
                ("resident memory after one answer of each kind", IDLE_MIB, "MiB", ours["idle_mib"]),
            )
        )


def _outcome(goal: Goal, ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}: {goal.verdict(ratio)}"
