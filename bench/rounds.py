"""Interleaved rounds: every server in turn, repeatedly, so that a slow minute of the machine affects all of them."""

import resource
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from time import sleep

from bench import machine
from bench.load_generators import Generator, Load, LoadError
from bench.servers import Running
from bench.targets import Work

# A round is disturbed if other programs kept more cores than this busy; it is then repeated.
QUIET_CORES = 0.15
PAUSE_SECONDS = 0.3
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How often and how long each server is measured in a series."""

    rounds: int
    seconds: float
    tries: int
    """Attempts at a round that other programs disturb."""
    pause_seconds: float = 0
    """After every round."""


@dataclass(frozen=True)
class Series:
    """One table: a kind of work under one load from one client."""

    work: Work
    load: Load
    client: str
    generator: Generator


@dataclass(frozen=True)
class Round:
    """Measurements of one server in one round."""

    per_second: float
    p50_ms: float
    p99_ms: float
    server_microseconds: float
    """CPU time of the server per answer."""
    memory_mib: float
    """Resident memory of all its processes, right after the round."""
    foreign_cores: float
    """Cores kept busy by other programs during the round."""
    unfinished: int


@dataclass(frozen=True)
class Result:
    """All rounds of one server in one series, and the errors of failed rounds."""

    server: str
    work: str
    load: str
    client: str
    rounds: list[Round]
    failures: list[str]

    def middle(self, name: str) -> float:
        """Median of a measure over the rounds."""
        return median(getattr(each, name) for each in self.rounds)

    def spread(self, name: str) -> tuple[float, float]:
        """Minimum and maximum of a measure."""
        values = [getattr(each, name) for each in self.rounds]
        return min(values), max(values)


def run(series: Series, running: Sequence[Running], pace: Pace) -> Iterator[Result]:
    """Measure all servers that can do the work, in turn, as often as the pace says."""
    able = [each for each in running if each.server.can(series.work, series.client, closed_loop=not series.load.rate)]
    results = {
        each.address: Result(each.server.name, series.work.name, str(series.load), series.client, [], [])
        for each in able
    }
    for each in able:
        _try(series, each, WARM_UP_SECONDS, results[each.address])
    for turn in range(pace.rounds):
        for each in (*able[turn % len(able) :], *able[: turn % len(able)]):
            if measured := _quiet(series, each, pace, results[each.address]):
                results[each.address].rounds.append(measured)
    yield from results.values()


def _quiet(series: Series, running: Running, pace: Pace, result: Result) -> Round | None:
    """The first undisturbed round, or else the least disturbed attempt: chosen by disturbance, never by speed."""
    taken: list[Round] = []
    for _ in range(pace.tries):
        measured = _try(series, running, pace.seconds, result)
        sleep(pace.pause_seconds)
        if measured:
            taken.append(measured)
            if measured.foreign_cores <= QUIET_CORES:
                break
        sleep(PAUSE_SECONDS)
    return min(taken, key=lambda each: each.foreign_cores, default=None)


def _try(series: Series, running: Running, seconds: float, result: Result) -> Round | None:
    try:
        return _measure(series, running, seconds)
    except LoadError as error:
        result.failures.append(str(error))
        return None


def _measure(series: Series, running: Running, seconds: float) -> Round:
    target = running.server.target(series.work)
    if target is None:
        raise ValueError(f"{running.server.name} cannot do {series.work.name}")
    watch = machine.Watch()
    server, own = machine.cpu_seconds(running.process.pid), _own_seconds()
    watch.begin()
    answers = series.generator(running.address, target, series.load, seconds)
    server = machine.cpu_seconds(running.process.pid) - server
    foreign = watch.foreign_cores(server + _own_seconds() - own)
    return Round(
        answers.per_second,
        answers.p50_ms,
        answers.p99_ms,
        server / answers.all * 1e6,
        machine.memory_mib(running.process.pid)[0],
        foreign,
        answers.unfinished,
    )


def _own_seconds() -> float:
    """CPU time of this program and of the load generators that have exited."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)
