"""A real Prometheus with this project's rules, their windows shortened."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.deploy.conftest import DEPLOY, component, free_port

RULES = [DEPLOY / "prometheus" / "recording.yml", DEPLOY / "prometheus" / "alerts.yml"]
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "hourglass.json"
# Windows become as many seconds as they have minutes, but long enough for a few scrapes.
SPEEDUP = 60
MINIMUM_SECONDS = 2.5
# Windows that would be too long. 8h stays longer than 6h and 30m together; 6h than 30m and a `for` of 5m.
LONG_SECONDS = {"1m": 5, "15m": 12, "30m": 6, "1h": 20, "6h": 45, "8h": 52}
SCRAPE_SECONDS = 1.0
TARGETS = "targets.json"
NAMESPACE = "models"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def accelerated(rules: str) -> str:
    """The same rules with every window, offset and `for` divided."""

    def shorter(match: re.Match[str]) -> str:
        window = match[2] + match[3]
        seconds = LONG_SECONDS.get(window) or max(int(match[2]) * _UNITS[match[3]] / SPEEDUP, MINIMUM_SECONDS)
        return f"{match[1]}{round(seconds * 1000)}ms"

    return re.sub(r"(\[|offset |for: )(\d+)([smh])\b", shorter, rules)


def dashboard_queries() -> dict[str, str]:
    """Every query of the dashboard with its variables filled in, by panel and letter."""
    dashboard = json.loads(DASHBOARD.read_text())
    filled = {"$__rate_interval": f"{int(10 * SCRAPE_SECONDS)}s", "$model": ".*"}

    def fill(expression: str) -> str:
        for variable, value in filled.items():
            expression = expression.replace(variable, value)
        return expression

    return {
        f"{panel['title']} {target['refId']}": fill(target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


def autoscaler_queries(pods: Sequence[str]) -> tuple[str, str]:
    """Queries of prometheus-adapter: the series, and the autoscaler's metric of some pods."""
    config = yaml.safe_load((DEPLOY / "kubernetes" / "adapter.yaml").read_text())["data"]["config.yaml"]
    (rule,) = yaml.safe_load(config)["rules"]
    filled = {
        "<<.Series>>": rule["name"]["as"],
        "<<.LabelMatchers>>": f'namespace="{NAMESPACE}",pod=~"{"|".join(pods)}"',
        "<<.GroupBy>>": "pod",
    }
    query = rule["metricsQuery"]
    for template, value in filled.items():
        query = query.replace(template, value)
    return rule["seriesQuery"], accelerated(query)


class Prometheus:
    """Client of the HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> dict:
        """Data of an answer; raises on an error."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:  # noqa: S310 (http only)
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict]:
        """Series of an instant query."""
        return self.get("query", query=expression)["result"]

    def firing(self) -> set[str]:
        """Names of the firing alerts."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}

    def pending(self) -> set[str]:
        """Names of the firing and pending alerts."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"]}

    def fired(self, seconds: float) -> set[tuple[str, str]]:
        """Names and instances (empty if none) of the alerts that fired in the last `seconds`, however briefly."""
        found = self.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{max(1, int(seconds))}s])')
        return {(series["metric"]["alertname"], series["metric"].get("instance", "")) for series in found}

    def rules(self) -> list[dict]:
        """Every rule with its health."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def ready(self) -> bool:
        """Whether it serves."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):  # noqa: S310 (likewise)
                return True
        except (OSError, urllib.error.HTTPError):
            return False


def eventually(condition: object, seconds: float, what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        # Half an interval of scrapes: each question costs Prometheus and this process some milliseconds.
        time.sleep(0.5)


def write_targets(folder: Path, targets: Sequence[Mapping[str, object]]) -> None:
    """Set the scrape targets: {"targets": […], "labels": {…}} each."""
    (folder / "next").write_text(json.dumps(targets))
    (folder / "next").replace(folder / TARGETS)


@contextmanager
def prometheus(folder: Path, targets: Sequence[Mapping[str, object]]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the targets and evaluates the project's rules."""
    program = component("prometheus")
    for path in RULES:
        (folder / path.name).write_text(accelerated(path.read_text()))
    interval = f"{int(SCRAPE_SECONDS * 1000)}ms"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [path.name for path in RULES],
        "scrape_configs": [{"job_name": "autoencoder", "file_sd_configs": [{"files": [TARGETS]}]}],
    }
    write_targets(folder, targets)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
    with (
        (folder / "prometheus.log").open("w") as log,
        subprocess.Popen([program, *arguments], cwd=folder, stdout=log, stderr=log) as process,
    ):
        server = Prometheus(port)
        try:
            eventually(server.ready, 30, "Prometheus is ready")
            yield server
        finally:
            process.terminate()
