import os
import subprocess
import sys
from time import perf_counter, sleep

from bench import machine

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_time_of_children_counts_running_and_ended() -> None:
    nested = (
        f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {BURN!r}]); print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        spent = machine.cpu_seconds(parent.pid)
        parent.communicate("\n")
    assert spent > 0.1


def test_tree_holds_the_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in machine.tree(os.getpid())
        resident, proportional = machine.memory_mib(child.pid)
        child.communicate(b"\n")
    assert resident >= proportional > 1


def test_foreign_load_is_what_is_not_ours() -> None:
    watch = machine.Watch()
    watch.begin()
    with subprocess.Popen([sys.executable, "-c", BURN]):
        pass
    seconds = perf_counter() - watch.began
    all_of_it = watch.foreign_cores(0)
    assert all_of_it * seconds > 0.1
    assert watch.foreign_cores(0.1) < all_of_it
    assert watch.foreign_cores(1e9) == 0


def test_ended_process_spent_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        sleep(0)
    assert machine.cpu_seconds(child.pid) == 0


def test_description_names_the_cores() -> None:
    assert machine.description().startswith(f"{os.cpu_count()} cores (")
