"""Memory after loading, under many threads, and after messages that were too large."""

import re
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from bench.server_list import TCMALLOC
from examples.local_server import running
from tests.server.conftest import GOLDEN

MIB = 2**20
ROOT = Path(__file__).parents[3]
METHOD = "/autoencoder.v1.AutoencoderService/Encode"


def memory_of(process_id: int | str = "self", kind: str = "VmRSS") -> int:
    """Bytes."""
    return int(re.search(rf"{kind}:\s+(\d+)", Path(f"/proc/{process_id}/status").read_text())[1]) * 1024


# Blocks below the threshold at which the C library gives memory back by itself.
FREED = """
import numpy
from server.runtime.malloc import trim, tune
from tests.server.runtime.test_malloc import memory_of
tune()
blocks = [numpy.ones(8_000) for _ in range(1000)]
keeper = numpy.ones(8_000)
held = memory_of()
del blocks
trim()
print(held - memory_of(), "tcmalloc" in open("/proc/self/maps").read(), keeper.all())
"""


@pytest.mark.parametrize("allocator", ["", "tcmalloc"])
def test_freed_memory_goes_back(allocator: str) -> None:
    if allocator and not TCMALLOC.exists():
        pytest.skip("tcmalloc is not installed: apt-get install libtcmalloc-minimal4")
    environment = {"LD_PRELOAD": str(TCMALLOC) if allocator else "", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FREED]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    freed, preloaded, kept = run.stdout.split()
    assert int(freed) > 30 * 10**6
    assert preloaded == str(bool(allocator))
    assert kept == "True"


ARENAS = """
import ctypes, sys, threading
from server.runtime.malloc import tune
tune()
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
gate = threading.Barrier(32)
def work():
    gate.wait()
    library.free(library.malloc(100_000))
    gate.wait()
threads = [threading.Thread(target=work) for _ in range(32)]
for thread in threads: thread.start()
for thread in threads: thread.join()
library.malloc_info(0, ctypes.c_void_p.in_dll(library, "stdout"))
library.fflush(None)
"""


@pytest.mark.parametrize(("environment", "arenas"), [({}, range(1, 3)), ({"MALLOC_ARENA_MAX": "5"}, range(3, 6))])
def test_threads_share_arenas(environment: dict[str, str], arenas: range) -> None:
    command = [sys.executable, "-c", ARENAS]
    page = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert page.count("<heap nr=") in arenas


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_message_beyond_the_limit_leaves_nothing_behind(tmp_path: Path, transport: str) -> None:
    with running(GOLDEN, tmp_path / "log", "--transport", transport, "--poll-seconds", "0.2") as server:
        before = memory_of(server.process.pid)
        with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
            with pytest.raises(grpc.RpcError, match="larger than max") as refused:
                channel.unary_unary(METHOD)(bytes(200 * MIB), timeout=60)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        end = time.monotonic() + 30
        while memory_of(server.process.pid) > before + 30 * MIB:
            assert time.monotonic() < end, memory_of(server.process.pid) - before
            time.sleep(0.1)


def test_a_call_without_a_token_is_refused_before_its_message_is_read(tmp_path: Path) -> None:
    """The native transport receives it first: SECURITY.md says so."""
    tokens = tmp_path / "tokens"
    tokens.write_text("inference a-token-of-sixteen\n")
    with running(GOLDEN, tmp_path / "log", "--transport", "grpcio", "--token-file", str(tokens)) as server:
        before = memory_of(server.process.pid)
        with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(METHOD)(bytes(200 * MIB), timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert memory_of(server.process.pid, "VmHWM") < before + 60 * MIB


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """The native transport cannot be configured not to unpack: SECURITY.md says so."""
    with running(GOLDEN, tmp_path / "log", "--transport", "grpcio") as server:
        before = memory_of(server.process.pid)
        with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
            with pytest.raises(grpc.RpcError, match="disabled") as refused:
                channel.unary_unary(METHOD)(bytes(200 * MIB), timeout=60, compression=grpc.Compression.Gzip)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert memory_of(server.process.pid, "VmHWM") < before + 30 * MIB
