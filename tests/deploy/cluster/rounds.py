"""Machines die, disappear and are upgraded under load: what callers notice, and how long until all is as before.

`make cluster-test` repeats all faults until the client has been answered TEST_REQUESTS times, and upgrades ten times.
"""

import logging
import os
import time
from functools import partial
from pathlib import Path

import pytest

from tests.deploy.cluster.cluster import Cluster
from tests.deploy.cluster.faults import Faults
from tests.deploy.cluster.watch import Watch

REQUESTS = int(os.environ.get("TEST_REQUESTS", "0"))
UPGRADES = 10
CALLERS = {"client": 6, "raw": 1}
REPLICAS = 3
LOG = logging.getLogger(__name__)


@pytest.mark.timeout(7200)
def test_rounds_of_all_faults(cluster: Cluster, versions: tuple[Path, Path, Path]) -> None:
    first, second, damaged = versions
    cluster.open(len(cluster.nodes))
    cluster.write_settings(first, REPLICAS)
    cluster.up()
    watch, faults = Watch(cluster, CALLERS), Faults(cluster, REPLICAS)
    events = [
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
    assert not watch.whole("client").lost


@pytest.mark.timeout(7200)
def test_upgrades_one_after_the_other(cluster: Cluster, versions: tuple[Path, Path, Path]) -> None:
    cluster.open(len(cluster.nodes))
    cluster.write_settings(versions[0], REPLICAS)
    cluster.up()
    watch, faults = Watch(cluster, CALLERS), Faults(cluster, REPLICAS)
    watch.during("nothing", partial(_quiet, 10))
    start = time.time()
    for number in range(UPGRADES):
        faults.upgrade(versions[(number + 1) % 2])
    for kind, callers in watch.callers.items():
        LOG.info("%d upgrades in %.0f s: %s: %s", UPGRADES, time.time() - start, kind, callers.window(start))
    watch.stop()
    assert not watch.whole("client").lost
    assert not watch.whole("raw").lost


def _quiet(seconds: float) -> float:
    time.sleep(seconds)
    return 0.0
