"""The server process: its output, exit codes, signals and imports."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from autoencoder.v1 import autoencoder_pb2_grpc

from tests.server.conftest import GOLDEN, copy_version, images, pixels, write_slow_denoiser

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"listening grpc=(\S+) metrics=(\S+)\n")
REQUEST = pb.EncodeRequest(model_name="fc-ae", images=images(pixels(1)))


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run `python -m server` on free ports; the process, its gRPC and its metrics address."""
    command = [sys.executable, "-m", "server", "--port", "0", "--metrics-port", "0", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = LINE.fullmatch(process.stdout.readline())
            assert line, process.stderr.read()
            yield process, line[1], line[2]
        finally:
            process.kill()


def refusal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and complaint of a program that does not start."""
    command = [sys.executable, "-m", "server", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def probe(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_answers_as_soon_as_it_has_printed_its_line(transport: str) -> None:
    with program("--repository", str(GOLDEN), HOURGLASS_TRANSPORT=transport) as (process, address, metrics):
        with grpc.insecure_channel(address) as channel:
            assert autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(REQUEST, timeout=10).latents.data
        assert probe(metrics, "/livez") == (200, "live\n")
        assert probe(metrics, "/readyz") == (200, "4 versions serve on CPUExecutionProvider\n")
        assert f'transport="{transport}"' in probe(metrics, "/metrics")[1]
        assert probe(metrics, "/else")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_metrics_port_may_have_an_address_of_its_own() -> None:
    with program("--repository", str(GOLDEN), "--metrics-host", "127.0.0.2") as (_, address, metrics):
        assert address.startswith("127.0.0.1:")
        host, _, port = metrics.rpartition(":")
        assert host == "127.0.0.2"
        assert probe(metrics, "/livez")[0] == 200
        with pytest.raises(urllib.error.URLError, match="refused"):
            probe(f"127.0.0.1:{port}", "/livez")


def test_a_variable_that_is_no_setting_is_warned_of() -> None:
    """A misspelled setting of the token file must be reported, because calls then need no token."""
    environment = {"HOURGLASS_TOKENFILE": "/run/secrets/tokens"}
    with program("--repository", str(GOLDEN), **environment) as (process, *_):
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        warned = [line for line in process.stderr.read().splitlines() if "WARNING" in line]
    assert re.search(r"HOURGLASS_TOKENFILE.*: unknown settings", warned[0])


def test_it_loads_nothing_of_training(transport: str) -> None:
    code = """
import sys, threading
from server.__main__ import main
sys.argv = ["server", "--repository", sys.argv[1], "--transport", sys.argv[2], "--port", "0", "--metrics-port", "0"]
import signal, grpc, os
from autoencoder.v1 import autoencoder_pb2 as pb, autoencoder_pb2_grpc
class Line:
    def write(self, text):
        if text.startswith("listening"):
            threading.Thread(target=call, args=(text.split("grpc=")[1].split()[0],)).start()
    def flush(self): pass
def call(address):
    with grpc.insecure_channel(address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        stub.Sample(pb.SampleRequest(model_name="vae", count=1, image_format=pb.IMAGE_FORMAT_PNG), timeout=10)
    os.kill(os.getpid(), signal.SIGTERM)
sys.stdout = Line()
code = main()
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(GOLDEN), transport],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert {"onnxruntime", "server", "bundle"} <= loaded
    assert not loaded & {"torch", "onnx", "training", "export", "sklearn", "scipy", "matplotlib", "hourglass_client"}


def test_an_empty_repository_is_not_ready_and_says_why(repository: Path) -> None:
    with program("--repository", str(repository), "--poll-seconds", "0") as (process, address, metrics):
        assert probe(metrics, "/livez")[0] == 200
        status, why = probe(metrics, "/readyz")
        assert status == 503
        assert "the repository holds no <name>/<version>/model.json" in why
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as failed:
            autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(REQUEST, timeout=10)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        copy_version(repository, "fc-ae", 1)
        process.send_signal(signal.SIGHUP)
        for _ in range(200):
            if probe(metrics, "/readyz")[0] == 200:
                return
            time.sleep(0.05)
        pytest.fail("SIGHUP did not load the new model")


def test_a_missing_repository_is_bad_usage(tmp_path: Path) -> None:
    code, complaint = refusal("--repository", str(tmp_path / "nowhere"))
    assert code == 2
    assert "is not a directory" in complaint
    assert len(complaint.splitlines()) == 1


def test_auto_is_native_without_tls() -> None:
    with program("--repository", str(GOLDEN)) as (_, _, metrics):
        assert 'transport="native"' in probe(metrics, "/metrics")[1]


def test_a_hangup_during_the_start_kills_nobody() -> None:
    command = [sys.executable, "-m", "server", "--repository", str(GOLDEN), "--port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            ignored = Path(f"/proc/{process.pid}/status")
            # As soon as the program has said what becomes of the signal.
            while not re.search(r"^Sig(Blk|Ign|Cgt):.*[13579bdf]$", ignored.read_text(), re.MULTILINE):
                time.sleep(0.001)
            for _ in range(20):
                process.send_signal(signal.SIGHUP)
                time.sleep(0.02)
            assert LINE.fullmatch(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("setting", ["--port", "--metrics-port"])
def test_a_busy_port_is_an_error(transport: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        free = {"--port": "0", "--metrics-port": "0", setting: port}
        code, complaint = refusal(
            "--repository", str(GOLDEN), "--transport", transport, *(word for pair in free.items() for word in pair)
        )
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in complaint
    assert "Traceback" not in complaint


def test_cuda_without_cuda_is_refused() -> None:
    code, complaint = refusal("--repository", str(GOLDEN), "--device", "cuda")
    assert code == 1
    assert "--device cuda" in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        ((), {}, "--repository (HOURGLASS_REPOSITORY)"),
        (("--repository", "x", "--port", "many"), {}, "--port (HOURGLASS_PORT)"),
        (("--repository", "x"), {"HOURGLASS_PORT": "70000"}, "got '70000'"),
        (("--repository", "x", "--device", "tpu"), {}, "'auto', 'cpu'"),
        (("--repository", "x", "--versions", "newest"), {}, "latest, all, or version numbers"),
        (("--repository", "x", "--speed", "9"), {}, "--speed"),
        (("--repository", "x", "--max-queue-rows", "9"), {}, "--max-request-rows, 1024"),
    ],
)
def test_bad_settings_are_bad_usage(arguments: tuple[str, ...], environment: dict[str, str], words: str) -> None:
    code, complaint = refusal(*arguments, **environment)
    assert code == 2
    assert words in complaint
    assert "Traceback" not in complaint


def accepted(page: str) -> int:
    """Denoise requests that have reached the server, answered or not."""
    counts = re.findall(r'autoencoder_requests_(?:in_flight|total)\{[^}]*method="Denoise"[^}]*\} (\d+)', page)
    return sum(map(int, counts))


def test_sigterm_answers_what_was_accepted(transport: str, repository: Path) -> None:
    write_slow_denoiser(repository)
    request = pb.DenoiseRequest(images=pb.Images(tensor=pb.Tensor(data_type=1, shape=[16, 32, 32], data=bytes(16384))))
    arguments = ("--repository", str(repository), "--transport", transport)
    with program(*arguments) as (process, address, metrics), grpc.insecure_channel(address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        calls = [stub.Denoise.future(request, timeout=60) for _ in range(24)]
        while accepted(probe(metrics, "/metrics")[1]) < len(calls):
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        late = stub.Denoise.future(request, timeout=60)
        assert [len(call.result().images.tensor.data) for call in calls] == [16384] * 24
        assert late.exception().code() is grpc.StatusCode.UNAVAILABLE
        assert process.wait(10) == 0


def test_beyond_loopback_native_says_what_it_lacks() -> None:
    with program("--repository", str(GOLDEN), "--host", "::", "--lame-duck-seconds", "0", "--transport", "native") as (
        process,
        _,
        _,
    ):
        process.send_signal(signal.SIGTERM)
        assert "no TLS" in process.stderr.read()


def test_auto_is_grpcio_beyond_loopback() -> None:
    """The native transport decompresses messages of any size, so that it needs a proxy there."""
    with program("--repository", str(GOLDEN), "--host", "::", "--lame-duck-seconds", "0") as (process, _, metrics):
        assert 'transport="grpcio"' in probe(metrics.replace("::", "::1"), "/metrics")[1]
        process.send_signal(signal.SIGTERM)
        assert "WARNING" not in process.stderr.read()


def test_it_is_small_and_quick() -> None:
    started = time.monotonic()
    with program("--repository", str(GOLDEN)) as (process, address, _):
        with grpc.insecure_channel(address) as channel:
            autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(REQUEST, timeout=10)
        # Seconds are for people on a quiet machine; here only what cannot be noise fails.
        assert time.monotonic() - started < 10
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident_kib = int(re.search(r"VmRSS:\s+(\d+)", status)[1])
        assert resident_kib < 120 * 1024


def test_nobody_asking_costs_nothing(transport: str) -> None:
    arguments = ("--repository", str(GOLDEN), "--transport", transport)
    with program(*arguments) as (process, address, _), grpc.insecure_channel(address) as channel:
        stub = autoencoder_pb2_grpc.AutoencoderServiceStub(channel)
        for _ in range(20):
            stub.Encode(REQUEST, timeout=10)
        time.sleep(0.2)
        before = cpu_seconds(process.pid)
        time.sleep(2)
        assert cpu_seconds(process.pid) - before < 0.1


def test_two_signals_at_once_are_one_wish() -> None:
    """As from `timeout`, which signals its program and then the program's group."""
    with program("--repository", str(GOLDEN), "--lame-duck-seconds", "4") as (process, address, metrics):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        while probe(metrics, "/readyz")[1] != "stopping\n":
            time.sleep(0.01)
        # The lame-duck time is served to its end.
        with grpc.insecure_channel(address) as channel:
            assert autoencoder_pb2_grpc.AutoencoderServiceStub(channel).Encode(REQUEST, timeout=10).latents.data
        assert process.wait(20) == 0


def cpu_seconds(pid: int) -> float:
    """Of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
