"""What a process holds, and whether it grows."""

import re
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from examples.local_server import LocalServer

MIB = 2**20
# numbers.md: within 5 % between ten thousand and a million requests; a little for what the allocator keeps.
GROWTH = 1.05
SLACK_BYTES = 8 * MIB


@dataclass(frozen=True)
class Holding:
    """Memory and threads of a process at one moment."""

    rss_bytes: int
    threads: int

    @classmethod
    def of(cls, process_id: int) -> "Holding":
        status = Path(f"/proc/{process_id}/status").read_text()
        return cls(
            int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024, int(re.search(r"Threads:\s+(\d+)", status)[1])
        )

    def leaked(self, before: "Holding") -> bool:
        """Whether this is more than the allocator's moods explain."""
        return self.rss_bytes > before.rss_bytes * GROWTH + SLACK_BYTES


def metrics(server: LocalServer, name: str, **labels: str) -> float:
    """Sum of a metric's samples that carry the labels."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def listening_port(server: LocalServer) -> int:
    """The port that a server's process listens on besides those of gRPC and of the metrics: that of HTTP."""
    links: list[str] = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        # It may have closed a file since.
        with suppress(FileNotFoundError):
            links.append(link.readlink().name)
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}
    (port,) = ports - {int(address.rpartition(":")[2]) for address in (server.address, server.metrics_address)}
    return port


def counted(server: LocalServer) -> dict[str, int]:
    """Finished requests by code."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    codes: dict[str, int] = {}
    for family in families:
        for sample in family.samples:
            if sample.name == "autoencoder_requests_total":
                codes[sample.labels["code"]] = codes.get(sample.labels["code"], 0) + int(sample.value)
    return codes
