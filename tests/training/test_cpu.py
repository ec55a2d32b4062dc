import platform
import subprocess
import sys
from pathlib import Path

import pytest

from training import cpu

# Tensors of some megabytes, made and freed over and over.
PROGRAM = """
import resource
import torch
from training import cpu

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if {keep}:
    assert cpu.keep_freed_memory()
torch.set_num_threads(1)
layer = torch.nn.Conv2d(16, 16, 3, padding=1)
images = torch.rand(128, 16, 28, 28)
for step in range(15):
    if step == 5:
        before = page_faults()
    layer(images).relu().square().sum().backward()
print(page_faults() - before)
"""


def page_faults(*, keep: bool) -> int:
    words = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_used_again() -> None:
    assert page_faults(keep=True) * 10 < page_faults(keep=False)


def test_files_that_were_read_take_no_memory_of_a_group(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert cpu.available_memory(tmp_path, tmp_path) == 5000 * 1024
    for name, text in (("max", "4000\n"), ("current", "3500\n"), ("stat", "anon 600\ninactive_file 2500\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert cpu.available_memory(tmp_path, tmp_path) == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert cpu.available_memory(tmp_path, tmp_path) == 5000 * 1024
