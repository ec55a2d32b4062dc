"""Cores that a container's quota leaves, under both versions of cgroups."""

import os
from pathlib import Path

import pytest

from server.runtime.cpu import cores, quota_cores

V2 = {"a/b/cpu.max": "150000 100000\n", "a/cpu.max": "max 100000\n", "cpu.max": "max 100000\n"}
V1 = {"cpu,cpuacct/pod/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n"}
CASES = {
    "none": ("0::/a/b", {}, None),
    "no limit": ("0::/a/b", {"a/b/cpu.max": "max 100000"}, None),
    "own": ("0::/a/b", V2, 1.5),
    "a parent's is smaller": ("0::/a/b", {**V2, "a/cpu.max": "25000 50000"}, 0.5),
    "the container's root": ("0::/", {"cpu.max": "300000 100000"}, 3.0),
    "the host's path in a container": ("0::/kubepods/pod7/c1", {"cpu.max": "200000 100000"}, 2.0),
    "version 1": ("9:name=systemd:/x\n3:cpu,cpuacct:/pod/c1\n0::/", V1, 0.5),
    "version 1 without a limit": ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    "damaged": ("0::/a", {"a/cpu.max": "many", "cpu.max": "0 0"}, None),
    "out of the tree": ("0::/../../a", {"a/cpu.max": "100000 100000"}, None),
}


@pytest.mark.parametrize(("process", "files", "expected"), CASES.values(), ids=CASES)
def test_quota(tmp_path: Path, process: str, files: dict[str, str], expected: float | None) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "process").write_text(f"{process}\n")
    assert quota_cores(tmp_path / "process", tmp_path / "cgroup") == expected


def test_cores_of_this_process() -> None:
    quota = quota_cores()
    assert quota is None or quota > 0
    assert 1 <= cores() <= len(os.sched_getaffinity(0))
    assert quota_cores(Path("/nowhere")) is None
