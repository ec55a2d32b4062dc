from bench import goals, report
from bench.results import Results

ROUND = {
    "per_second": 1000.0,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "server_microseconds": 50.0,
    "memory_mib": 90.0,
    "foreign_cores": 0.0,
    "unfinished": 0,
}


def result(server: str, load: str, client: str = "h2load", failures: tuple[str, ...] = (), **measures: float) -> dict:
    rounds = [
        {**ROUND, **measures, "per_second": measures.get("per_second", 1000) * factor} for factor in (0.9, 1, 1.2)
    ]
    return {
        "server": server,
        "work": goals.ONE,
        "load": load,
        "client": client,
        "rounds": rounds,
        "failures": list(failures),
    }


RECORD = {
    "date": "2026-01-01 00:00 UTC",
    "machine": "2 cores",
    "revision": "abc",
    "command": "python -m bench",
    "rounds": 3,
    "seconds": 1.0,
    "quiet_cores": 0.15,
    "tries": 4,
    "priority": "at niceness 0",
    "limits": {goals.ONE: 50000.0},
    "alone_seconds": 0.5,
    "servers": [
        {"name": name, "note": "n", "start_seconds": 0.5, "idle_mib": 90, "resident_mib": 95, "proportional_mib": 80}
        for name in (goals.NATIVE, "Triton", "mosec")
    ],
    "absent": {"MLServer": "skipped: not installed"},
    "results": [
        result(goals.NATIVE, "64 callers", per_second=9000, server_microseconds=60),
        result("Triton", "64 callers", per_second=4000, server_microseconds=240, foreign_cores=0.5),
        result("mosec", "64 callers", per_second=10000, failures=("no answers\nat all",)),
        result(goals.NATIVE, "500/s", client="C++ client", unfinished=3),
    ],
}


def test_goals_say_reached_above_the_floor_or_missed() -> None:
    got = {
        (goal.theirs, goal.measure): goal.verdict(ratio)
        for goal in goals.GOALS
        if goal.load == "64 callers" and (ratio := goal.ratio(Results(RECORD), "h2load")) is not None
    }
    assert got == {
        ("Triton", goals.RATE): "above the floor",
        ("Triton", goals.CPU): "reached",
        ("Triton", goals.P99): "missed",
        ("mosec", goals.RATE): "above the floor",
    }


def test_page_shows_medians_spread_disturbance_owed_answers_failures_and_absence() -> None:
    page = report.page(RECORD)
    assert "| Triton | 64 callers | 4,000 (3,600 to 4,800) † | 1.00 | 2.00 | 240 | 90 |" in page
    assert f"| {goals.NATIVE} | 500/s | 1,000 (900 to 1,200), 3 owed |" in page
    assert "- mosec, encode 1 image, 64 callers, h2load: no answers" in page
    assert "| MLServer | skipped: not installed |" in page
    assert "open loop" in page
    assert "start to first answer, one model | ≤ 1 s | 0.50 s: reached" in page
