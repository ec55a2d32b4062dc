"""Every alert fires for a real fault and clears again: a real Prometheus scrapes real servers."""

import subprocess
import time
from dataclasses import dataclass, field

import pytest
import yaml

from tests.deploy.conftest import ROOT, component
from tests.deploy.faults import Faults, faulty
from tests.deploy.monitoring import LONG_SECONDS, RULES, Prometheus, autoscaler_queries, dashboard_queries, eventually

ALERTS = [
    rule["alert"]
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
QUIET_SECONDS = 4
# All of them share one history, which takes three minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)
UNIT_TESTS = sorted((ROOT / "tests" / "deploy" / "rules").glob("*.yml"))
# Every target has a process old enough for AutoencoderMemoryGrowth.
SETTLED = f"process_start_time_seconds == (process_start_time_seconds offset {LONG_SECONDS['8h']}s)"


@dataclass
class History:
    """Alerts that fired before, during and after the faults; results of rules and dashboard queries."""

    before: set[tuple[str, str]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)
    gone: set[tuple[str, str]] = field(default_factory=set)
    back: set[str] = field(default_factory=set)
    rules: list[dict] = field(default_factory=list)
    series: dict[str, int] = field(default_factory=dict)
    pods: set[str] = field(default_factory=set)
    queues: dict[str, float] = field(default_factory=dict)


def settle(faults: Faults, watcher: Prometheus, history: History) -> None:
    """A start, a rollout, and a quiet period."""
    eventually(lambda: len(watcher.query("up == 1")) == 3, 30, "all servers are scraped")
    # Until then there was no target, for longer than the shortened rule waits.
    eventually(lambda: "AutoencoderDown" not in watcher.pending(), 30, "all servers are found")
    started = time.monotonic()
    with faults.old_server() as old:
        query = f'autoencoder_model_ready{{instance="{old.metrics_address}"}}'
        eventually(lambda: watcher.query(query), 30, "the server to be replaced is scraped")
    eventually(lambda: "AutoencoderCpuFallback" in watcher.firing(), 30, "the fallback is noticed")

    eventually(lambda: len(watcher.query(SETTLED)) >= 3, 150, "all servers have run for a while")
    history.before = watcher.fired(time.monotonic() - started)


def observe(watcher: Prometheus, history: History) -> None:
    """Poll until every alert has fired and every query has found series."""
    found, metric = autoscaler_queries(("pod-0", "pod-2"))
    history.series = dict.fromkeys(dashboard_queries(), 0)
    started = time.monotonic()
    # A busy machine misses scrapes, and each rule waits for some in a row.
    end = started + 300
    while not (history.seen == set(ALERTS) and all(history.series.values())) and time.monotonic() < end:
        history.seen = {name for name, _ in watcher.fired(time.monotonic() - started)}
        history.series |= {
            name: len(watcher.query(query)) for name, query in dashboard_queries().items() if not history.series[name]
        }
        for series in watcher.query(metric):
            pod, rows = series["metric"]["pod"], float(series["value"][1])
            history.queues[pod] = max(rows, history.queues.get(pod, 0))
        time.sleep(0.5)
    history.pods = {series["pod"] for series in watcher.get("series", **{"match[]": found})}
    history.rules = watcher.rules()


def quiet(watcher: Prometheus) -> set[str]:
    """Wait until no alert is firing or pending for a few evaluations; return those that still are."""
    end = time.monotonic() + 90
    calm = time.monotonic()
    while time.monotonic() - calm < QUIET_SECONDS and time.monotonic() < end:
        if watcher.pending():
            calm = time.monotonic()
        time.sleep(0.5)
    return watcher.pending()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    component("prometheus")
    record = History()
    with faulty(tmp_path_factory.mktemp("alerts")) as (faults, watcher):
        settle(faults, watcher, record)
        faults.inject()
        observe(watcher, record)
        faults.repair()
        record.after = quiet(watcher)
        faults.scrape_nothing()
        started = time.monotonic()
        eventually(watcher.firing, 30, "the loss of all targets is noticed")
        time.sleep(QUIET_SECONDS)
        record.gone = watcher.fired(time.monotonic() - started)
        faults.scrape()
        record.back = quiet(watcher)
    return record


def test_a_healthy_service_a_start_and_a_rollout_raise_no_alarm(history: History) -> None:
    (fallback,) = history.before
    assert fallback[0] == "AutoencoderCpuFallback"


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires_for_a_fault_and_clears(history: History, alert: str) -> None:
    assert alert in history.seen
    assert alert not in history.after


def test_the_loss_of_all_targets_is_an_alarm_of_its_own(history: History) -> None:
    assert history.gone == {("AutoencoderDown", "")}
    assert history.back == set()


def test_every_rule_is_evaluated(history: History) -> None:
    assert len(history.rules) >= 20
    assert {rule["name"]: rule.get("lastError") for rule in history.rules if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("query", dashboard_queries())
def test_the_dashboards_query_finds_series(history: History, query: str) -> None:
    assert history.series[query]


def test_the_autoscaler_sees_the_queue_of_each_pod(history: History) -> None:
    assert {"pod-0", "pod-2"} <= history.pods
    assert set(history.queues) == {"pod-0", "pod-2"}
    # The first one was flooded, the other one had no calls.
    assert history.queues["pod-0"] > 256
    assert history.queues["pod-2"] == 0


def test_rules_are_valid() -> None:
    subprocess.run([component("promtool"), "check", "rules", *map(str, RULES)], check=True, capture_output=True)


def test_rules_do_what_their_unit_tests_say() -> None:
    command = [component("promtool"), "test", "rules", *map(str, UNIT_TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_unit_tests_say_when_an_alert_fires_and_when_not(alert: str) -> None:
    groups = [test for path in UNIT_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    fires = {
        bool(case["exp_alerts"])
        for group in groups
        for case in group.get("alert_rule_test", [])
        if case["alertname"] == alert
    }
    assert fires == {True, False}
