"""Servers of the comparison: ours on each transport, bare echo servers as limits, and peers set up by their manuals."""

import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import openvino_servers, targets, works
from bench.behind_envoy import ENVOY, certificate
from bench.servers import Server
from bench.targets import Target, Work
from bench.works import ROOT, WORKSPACE

HERE = Path(__file__).resolve().parent
PEERS = ROOT / "build" / "peers"
PROGRAMS = HERE / "peers"
# Of Debian's libtcmalloc-minimal4.
TCMALLOC = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "") / "libtcmalloc_minimal.so.4"

TRITON_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 256
input [ {{ name: "images" data_type: {type} dims: [ 28, 28, 1 ] }} ]
output [ {{ name: "{output}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]
instance_group [ {{ count: {count} kind: KIND_CPU }} ]
dynamic_batching {{ }}
"""
MLSERVER_MODEL = """\
{{"name": "{name}", "implementation": "mlserver_model.Inference", "max_batch_size": 64, "max_batch_time": 0.001}}
"""


def all_servers(models: Path) -> list[Server]:
    """All servers, in the order of the page; `models` is the repository that ours serves."""
    graphs = {
        "BENCH_ENCODE": str(models / "fc-ae" / "1" / "encode.onnx"),
        "BENCH_DENOISE": str(models / "denoiser" / "1" / "denoise.onnx"),
        "PYTHONPATH": str(PROGRAMS),
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return [
        *(hourglass(transport, models) for transport in ("native", "grpcio")),
        _hourglass_tcmalloc(models),
        _hourglass_uncounted(models),
        _hourglass_stream(models),
        _hourglass_open_inference(models),
        _hourglass_bfloat16(),
        behind_envoy(models),
        *_echoes(),
        *openvino_servers.servers(WORKSPACE / "openvino_server", models),
        _triton(graphs),
        _mlserver(graphs),
        _mosec(graphs),
        _litserve(graphs),
        _bentoml(graphs),
    ]


def hourglass(transport: str, models: Path) -> Server:
    """This server with a transport, serving the repository `models`."""
    flags = ["--repository", str(models), "--port", "{port}", "--metrics-port", "0", "--transport", transport]
    return Server(
        f"hourglass {transport}",
        f"this server, `--transport {transport}`, otherwise defaults: metrics, health, drift and logging on",
        [sys.executable, "-m", "server", *flags],
        targets.hourglass,
        ROOT / "server" / "__main__.py",
        folder=ROOT,
    )


def _hourglass_tcmalloc(models: Path) -> Server:
    native = hourglass("native", models)
    return replace(
        native,
        name=f"{native.name}, tcmalloc",
        note="the same with the allocator of the container image, by LD_PRELOAD",
        needs=TCMALLOC,
        environment={"LD_PRELOAD": str(TCMALLOC), "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES": str(8 * 2**20)},
    )


def _hourglass_uncounted(models: Path) -> Server:
    native, program = hourglass("native", models), ROOT / "tests" / "bench" / "uncounted.py"
    return replace(
        native,
        name=f"{native.name}, uncounted",
        note="the first without metrics, drift and logs of requests",
        command=[sys.executable, "-m", "tests.bench.uncounted", *native.command[3:]],
        needs=program,
    )


def _hourglass_stream(models: Path) -> Server:
    def encode_one(work: Work) -> Target | None:
        return targets.stream(work) if work.name == "encode 1 image" else None

    unary = hourglass("grpcio", models)
    note = "the same, called by Stream: the callers of a connection share one"
    return replace(unary, name=f"{unary.name}, Stream", note=note, target=encode_one)


def _hourglass_open_inference(models: Path) -> Server:
    def encode_one(work: Work) -> Target | None:
        return targets.model_infer(work, f"{work.model}.{work.signature}") if work.name == "encode 1 image" else None

    typed = hourglass("native", models)
    note = "as the first, called by ModelInfer of the Open Inference Protocol"
    return replace(typed, name=f"{typed.name}, ModelInfer", note=note, target=encode_one)


def _hourglass_bfloat16() -> Server:
    native = hourglass("native", works.BFLOAT16_MODELS)

    def denoise_only(work: Work) -> Target | None:
        return targets.hourglass(work) if work.signature == "denoise" else None

    return replace(
        native,
        name=f"{native.name}, bfloat16",
        note="as the first, with the denoiser's bfloat16 variant on onnxruntime's OpenVINO provider",
        command=[str(works.BFLOAT16_PYTHON), *native.command[1:]],
        target=denoise_only,
        needs=works.BFLOAT16_MODELS / "denoiser",
        tolerance=openvino_servers.BFLOAT16_TOLERANCE,
    )


def behind_envoy(models: Path) -> Server:
    """The native transport behind Envoy, which TLS callers reach."""
    folder, native = WORKSPACE / "envoy", hourglass("native", models)
    return replace(
        native,
        name=f"{native.name}, Envoy with TLS",
        note="as the first, behind Envoy 1.40 of deploy/envoy on the same cores, called with TLS; Envoy has one thread",
        command=[sys.executable, "-m", "bench.behind_envoy", str(models), str(folder), "{port}"],
        target=lambda work: replace(targets.hourglass(work), certificate=certificate(folder)),
        needs=ENVOY,
    )


def _echoes() -> list[Server]:
    def encode_only(work: Work) -> Target | None:
        return targets.echo(work) if work.signature == "encode" else None

    cpp, native, aio = WORKSPACE / "echo", PROGRAMS / "native_echo.py", PROGRAMS / "aio_echo.py"
    return [
        Server(
            "C++ echo", "gRPC's C++ library, one thread, echoes the request", [str(cpp), "{port}"], encode_only, cpp
        ),
        Server(
            "pygrpc-native echo",
            "the library under our native transport, one network thread, echoes the request",
            [sys.executable, str(native), "{port}", targets.ECHO],
            encode_only,
            native,
        ),
        Server(
            "grpc.aio echo",
            "gRPC's Python library, echoes the request",
            [sys.executable, str(aio), "{port}"],
            encode_only,
            aio,
        ),
    ]


def _triton(graphs: Mapping[str, str]) -> Server:
    home = PEERS / "triton" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    server, folder = home / "pytriton" / "tritonserver", WORKSPACE / "triton"
    if server.exists():
        _prepare_triton(server, folder)
    flags = ["--model-repository", str(folder), "--backend-directory", str(server / "backends")]
    fronts = [
        "--grpc-address",
        "127.0.0.1",
        "--grpc-port",
        "{port}",
        "--allow-http",
        "false",
        "--allow-metrics",
        "false",
    ]
    return Server(
        "Triton",
        "2.51 from nvidia-pytriton 0.7, Python backend, dynamic batching without delay; one instance for the encoder, "
        "two for the denoiser",
        [str(server / "bin" / "tritonserver"), *flags, *fronts],
        lambda work: targets.model_infer(work, work.signature),
        server / "bin" / "tritonserver",
        environment={
            **graphs,
            "PYTHONPATH": f"{PROGRAMS}:{home}",
            "LD_LIBRARY_PATH": str(home / "nvidia_pytriton.libs"),
        },
    )


def _prepare_triton(server: Path, folder: Path) -> None:
    """Install the stub for this Python in the backend, and write the model repository."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    stub = server / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        shutil.copy(server / "python_backend_stubs" / version / stub.name, stub)
        stub.chmod(0o755)
    for name, kind, output, dims, count in (
        ("encode", "TYPE_UINT8", "latents", "32", 1),
        ("denoise", "TYPE_FP32", "denoised", "28, 28, 1", 2),
    ):
        model = folder / name / "1"
        model.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROGRAMS / "triton_model.py", model / "model.py")
        config = TRITON_CONFIG.format(name=name, type=kind, output=output, dims=dims, count=count)
        (folder / name / "config.pbtxt").write_text(config)


def _mlserver(graphs: Mapping[str, str]) -> Server:
    folder, program = WORKSPACE / "mlserver", PEERS / "mlserver" / "bin" / "mlserver"
    for name in ("encode", "denoise"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "model-settings.json").write_text(MLSERVER_MODEL.format(name=name))
    return Server(
        "MLServer",
        "1.7 over gRPC, a custom runtime in its own process, adaptive batching of 64 in 1 ms",
        [str(program), "start", str(folder)],
        lambda work: targets.model_infer(work, work.signature),
        program,
        environment={
            **graphs,
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_DEBUG": "false",
        },
        port_variables=("MLSERVER_GRPC_PORT",),
        spare_port_variables=("MLSERVER_HTTP_PORT", "MLSERVER_METRICS_PORT"),
    )


def _mosec(graphs: Mapping[str, str]) -> Server:
    program = PEERS / "mosec" / "bin" / "python"
    return Server(
        "mosec",
        "0.9, raw bytes over HTTP/1.1, batches of 64 in 1 ms; one worker for the encoder, two for the denoiser",
        [str(program), str(PROGRAMS / "mosec_server.py"), "--address", "127.0.0.1", "--port", "{port}"],
        lambda work: targets.raw_http(work, f"/{work.signature}"),
        program,
        environment=graphs,
    )


def _litserve(graphs: Mapping[str, str]) -> Server:
    program = PEERS / "litserve" / "bin" / "python"
    return Server(
        "LitServe",
        "0.2, JSON with base64 over HTTP/1.1, one worker, batches of 64 in 1 ms",
        [str(program), str(PROGRAMS / "litserve_server.py"), "{port}"],
        lambda work: targets.base64_http(
            work, f"/{work.signature}", lambda body: {"body": body}, lambda answer: answer["body"]
        ),
        program,
        environment=graphs,
    )


def _bentoml(graphs: Mapping[str, str]) -> Server:
    program = PEERS / "bentoml" / "bin" / "bentoml"
    command = [str(program), "serve", "bentoml_service:Inference", "--working-dir", str(PROGRAMS)]
    return Server(
        "BentoML",
        "1.4, JSON with base64 over HTTP/1.1, one worker, adaptive batching of 256",
        [*command, "--host", "127.0.0.1", "--port", "{port}", "--quiet"],
        lambda work: targets.base64_http(
            work, f"/{work.signature}", lambda body: {"bodies": [body]}, lambda answer: answer[0]
        ),
        program,
        environment={**graphs, "BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(WORKSPACE / "bentoml")},
    )
