"""Every setting of the server: a flag, an environment variable, a default, a unit."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from server.settings import Settings, setting

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
_PORTS = {"least": 0, "most": 65535}
_LONGEST_NUMBER = 18
_POLICIES = "expected latest, all, or version numbers such as 1,3"


@dataclass(frozen=True, kw_only=True)
class BatchingConfig(Settings):
    """When a batch leaves, how large it is, how many run at a time, and how much may wait."""

    max_batch_rows: int = setting(0, "rows of a graph run at most; 0: measured at warm-up", least=0)
    max_queue_delay_ms: float = setting(0, "time that a batch may wait to fill, in ms", least=0)
    max_queue_rows: int = setting(8192, "rows that may wait per model", least=1)
    fair_queue: bool = setting(
        True,
        "callers take turns where more waits than two runs take; when more than half of what may wait does, a caller "
        "may have no more rows there than are free",
    )
    concurrent_runs: int = setting(0, "runs of one graph at a time; 0: measured at warm-up", least=0)
    inline_run_microseconds: float = setting(
        100, "graphs whose single run is at most this long run on the transport's own thread", least=0
    )


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(Settings):
    """What one request may ask for."""

    max_request_rows: int = setting(1024, "images or latents per request, and count of Sample", least=1)
    max_message_bytes: int = setting(64 * 1024 * 1024, "size of a request, in bytes", least=1)
    max_image_pixels: int = setting(4_194_304, "pixels of an encoded image, before decoding", least=1)
    max_request_pixels: int = setting(
        67_108_864, "pixels of all encoded images of a request together, before decoding", least=1
    )


@dataclass(frozen=True, kw_only=True)
class HeavyConfig(Settings):
    """What may wait for threads of its own: image files, large messages, many latents or PNG files to be made."""

    heavy_threads: int = setting(2, "threads for such work", least=1)
    max_heavy_jobs: int = setting(1024, "requests that may wait for them", least=1)
    max_heavy_bytes: int = setting(512 * 1024 * 1024, "size of what may wait for them together, in bytes", least=1)


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig(Settings):
    """What one caller may hold of the transport."""

    max_connections: int = setting(
        4096,
        "connections at a time of each gRPC port and of the HTTP port; not of the native transport; the metrics port "
        "keeps the newest 64",
        least=1,
    )
    max_concurrent_streams: int = setting(1024, "calls at a time per connection", least=1)
    max_stream_requests: int = setting(
        256, "requests of one stream that are taken in before they are answered", least=1
    )
    max_header_bytes: int = setting(16_384, "size of a call's metadata, in bytes", least=1)
    min_ping_seconds: float = setting(
        5, "clients may ping this often, in s; who does so more often is sent away; grpcio transport only", above=0
    )
    max_connection_idle_seconds: float = setting(
        900, "ask clients that call nothing to go after this time, in s; 0: never; grpcio transport only", least=0
    )
    max_connection_age_seconds: float = setting(
        0, "ask clients to connect anew after this time, in s; 0: never; grpcio transport only", least=0
    )


@dataclass(frozen=True, kw_only=True)
class SecurityConfig(Settings):
    """Who may call, and over what."""

    tls_certificate: Path | None = setting(None, "PEM file of the certificate chain; turns TLS on")
    tls_key: Path | None = setting(None, "PEM file of the certificate's key")
    tls_client_ca: Path | None = setting(
        None, "PEM file of the authorities whose clients alone may connect (mutual TLS)"
    )
    token_file: Path | None = setting(None, "file of bearer tokens, `RIGHT TOKEN` a line; turns them on")
    model_control: bool = setting(False, "load and unload models on request at the gRPC port too")
    admin_host: str = setting("127.0.0.1", "address of the admin port")
    admin_port: int | None = setting(None, "port that loads and unloads models on request; off unless set", **_PORTS)
    require_signature: Path | None = setting(
        None, "PEM file of an elliptic-curve public key; serve only bundles whose model.sig it verifies"
    )


@dataclass(frozen=True, kw_only=True)
class ObservabilityConfig(Settings):
    """What the server tells about itself, besides its metrics."""

    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "least level logged")
    log_format: Literal["text", "json"] = setting("text", "lines for people or JSON objects")
    otlp_endpoint: str | None = setting(
        None, "OTLP/gRPC endpoint for traces, such as http://collector:4317; off unless set"
    )
    trace_sample_ratio: float = setting(
        1.0, "share of the requests that are traced where the caller has not decided, 0 to 1", least=0, most=1
    )


@dataclass(frozen=True, kw_only=True)
class SessionConfig(Settings):
    """How onnxruntime runs the graphs."""

    device: Device = setting("auto", "cuda refuses to start without CUDA, auto then takes the CPU")
    intra_op_threads: int = setting(1, "CPU threads of one graph run", least=1)
    cuda_device: int = setting(0, "number of the CUDA device", least=0)
    cuda_graphs: bool = setting(False, "capture a CUDA graph per batch bucket")
    run_timeout_seconds: float = setting(
        60,
        "a version is withdrawn when a graph run takes longer than this, in s, and made anew once it has ended",
        above=0,
    )
    load_timeout_seconds: float = setting(
        120, "a version is refused when its load, self-test and warm-up take longer than this, in s", above=0
    )
    cuda_memory_limit_bytes: int = setting(0, "memory per CUDA session, in bytes; 0: no limit", least=0)


@dataclass(frozen=True, kw_only=True)
class Config(
    BatchingConfig, LimitsConfig, HeavyConfig, ConnectionConfig, SecurityConfig, ObservabilityConfig, SessionConfig
):
    """Settings of `python -m server`; each is also HOURGLASS_<NAME> in the environment."""

    repository: Path = setting(..., "folder of model bundles: <repository>/<name>/<version>/model.json")
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8001, "gRPC port; 0 takes a free one", **_PORTS)
    rest_port: int | None = setting(
        None, "port of the Open Inference Protocol over HTTP; off unless set; needs the extra `rest`", **_PORTS
    )
    rest_head_seconds: float = setting(
        10, "time in which a TLS handshake and the head of an HTTP request must have come, each, in s", above=0
    )
    rest_body_seconds: float = setting(30, "time in which the body of an HTTP request must have come, in s", above=0)
    metrics_host: str | None = setting(None, "address of the metrics port; that of --host unless set")
    metrics_port: int = setting(8002, "port of /metrics, /livez and /readyz; 0 takes a free one", **_PORTS)
    transport: Literal["auto", "native", "grpcio"] = setting(
        "auto", "auto is native (pygrpc-native) where it is installed and TLS is off, else grpcio"
    )
    reflection: bool = setting(True, "answer gRPC server reflection")
    versions: str = setting("latest", "versions to serve: latest, all, or a list such as 1,3")
    max_model_bytes: int = setting(
        2 * 1024**3, "size of the files of a version together, in bytes: a larger one is refused unread", least=1
    )
    poll_seconds: float = setting(5, "look for new versions this often, in s; 0: never", least=0)
    strict_readiness: bool = setting(
        False, "ready when every model of the repository serves, and then while those that have served do"
    )
    drain_seconds: float = setting(30, "time to answer what was accepted when stopping, in s", above=0)
    lame_duck_seconds: float = setting(
        0, "time to go on serving as not ready before refusing new calls when stopping, in s", least=0
    )
    io_threads: int = setting(0, "threads of the native transport; 0: half the cores, 4 at most", least=0)
    spin_microseconds: float = setting(
        200,
        "how long the native transport looks for the next request before it sleeps, where there is a second core",
        least=0,
    )

    def problems(self) -> list[str]:
        """What is wrong with settings together."""
        plain = self.tls_certificate is None
        wrong = (
            (
                self.versions not in {"latest", "all"} and not all(map(_is_version, self.versions.split(","))),
                f"--versions (HOURGLASS_VERSIONS): {_POLICIES}, got {self.versions!r}",
            ),
            (
                self.max_queue_rows < self.max_request_rows,
                f"--max-queue-rows: expected --max-request-rows, {self.max_request_rows}, at least",
            ),
            (
                plain != (self.tls_key is None),
                "expected both of --tls-certificate and --tls-key, got one of them",
            ),
            (
                plain and self.tls_client_ca is not None,
                "--tls-client-ca works with --tls-certificate and --tls-key alone",
            ),
            (
                not plain and self.transport == "native",
                "the native transport has no TLS: expected --transport grpcio or auto beside a certificate",
            ),
            (
                plain and self.token_file is not None and not self._stays_here(),
                "tokens travel beyond this machine only under TLS: give --tls-certificate and --tls-key",
            ),
            (
                self._controlled_from_afar() and self.token_file is None and self.tls_client_ca is None,
                "anybody could load and unload models from beyond this machine: give --token-file or --tls-client-ca",
            ),
        )
        return [sentence for holds, sentence in wrong if holds]

    def _stays_here(self) -> bool:
        return is_loopback(self.host) and (self.admin_port is None or is_loopback(self.admin_host))

    def _controlled_from_afar(self) -> bool:
        hosts = [self.host] * self.model_control + [self.admin_host] * (self.admin_port is not None)
        return not all(map(is_loopback, hosts))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def join_host_port(host: str, port: int) -> str:
    """HOST:PORT, as URLs write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER and int(text) > 0
