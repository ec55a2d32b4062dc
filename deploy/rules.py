"""Writes deploy/kubernetes/rules.yaml, a PrometheusRule with the rules of deploy/prometheus: `make rules`.

    python deploy/rules.py [--runbooks URL]

URL is the address of your copy of docs/operations.md: every alert's runbook_url points there from then on. The standard
library alone, so that it runs anywhere.
"""

import argparse
import re
import textwrap
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent
_HEAD = """\
# Written by deploy/rules.py from deploy/prometheus/recording.yml and alerts.yml: change those, then `make rules`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hourglass
  # Prometheus takes the rules whose labels its ruleSelector names: add them here.
  labels: {app.kubernetes.io/name: hourglass}
spec:
  groups:
"""


def manifest(*rules: str) -> str:
    """The custom resource that holds the groups of rule files."""
    groups = "".join(text.split("groups:\n", 1)[1] for text in rules)
    return _HEAD + textwrap.indent(groups, "  ")


def point(rules: str, page: str) -> str:
    """Rules whose runbooks are on another page."""
    return re.sub(r"(runbook_url: )[^#\s]+#", lambda found: f"{found[1]}{page}#", rules)


def write(folder: Path, page: str | None) -> None:
    """Point the runbooks somewhere else, if wanted, and write the custom resource."""
    recording, alerts = (folder / "prometheus" / name for name in ("recording.yml", "alerts.yml"))
    if page is not None:
        alerts.write_text(point(alerts.read_text(), page))
    (folder / "kubernetes" / "rules.yaml").write_text(manifest(recording.read_text(), alerts.read_text()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write deploy/kubernetes/rules.yaml.")
    parser.add_argument("--runbooks", metavar="URL", help="address of your copy of docs/operations.md")
    write(DEPLOY, parser.parse_args().runbooks)
