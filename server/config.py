"""Configuration: every setting of the server, with its flag, environment variable, default and unit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bundle.graph import MAX_RUN_BYTES
from server.addresses import TrustedProxies, is_loopback, is_unix, plain_host
from server.execution_config import BatchingConfig, HeavyConfig, LimitsConfig, SessionConfig
from server.settings import Settings, setting

_PORTS = {"least": 0, "most": 65535}
_LONGEST_NUMBER = 18
# Two health checks of deploy/envoy, at most 2 s, and half as much again.
_LAME_DUCK_SECONDS = 3.0
_PROXIES = "expected addresses or networks by commas, such as 10.0.0.1,10.1.0.0/16, or unix"
_VERSION_POLICIES = "expected latest, all, or version numbers such as 1,3"


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig(Settings):
    """Limits of clients on the transport."""

    max_connections: int = setting(
        4096,
        "maximum open connections of each gRPC port and of the HTTP port; not of the native transport; the metrics "
        "port keeps the newest 64",
        least=1,
    )
    max_address_connections: int = setting(
        0,
        "maximum open connections of one address (IPv6: a /64 network; Unix sockets: a process) to each gRPC port; 0: "
        "three quarters of --max-connections; grpcio transport only",
        least=0,
    )
    max_concurrent_streams: int = setting(1024, "maximum concurrent calls per connection", least=1)
    max_unsent_bytes: int = setting(
        256 * 1024 * 1024,
        "maximum total size of answers that are not sent yet, in bytes; above it, the connection that holds most is "
        "ended; grpcio transport and streams",
        least=1,
    )
    max_connection_unsent_bytes: int = setting(
        64 * 1024 * 1024, "the same of one connection, in bytes; grpcio transport only", least=1
    )
    first_message_seconds: float = setting(
        60,
        "time limit for the message of a unary call, and of a health check, in s; grpcio transport and health",
        above=0,
    )
    max_waiting_calls: int = setting(
        16_384,
        "maximum open calls and streams of each gRPC port that wait for a message; above it, of the address that has "
        "most of them the one that has waited longest is ended; grpcio transport, health and streams",
        least=1,
    )
    max_health_watches: int = setting(1024, "maximum open health watches of each gRPC port", least=1)
    max_connection_health_watches: int = setting(
        16, "maximum open health watches of one connection; grpcio transport only", least=1
    )
    max_stream_requests: int = setting(256, "maximum unanswered requests that are read from one stream", least=1)
    max_header_bytes: int = setting(16_384, "maximum size of a call's metadata, in bytes", least=1)
    min_ping_seconds: float = setting(
        5,
        "minimum interval between client pings, in s; faster clients are disconnected; grpcio transport only",
        above=0,
    )
    max_connection_idle_seconds: float = setting(
        900, "close connections without calls after this time, in s; 0: never; grpcio transport only", least=0
    )
    max_connection_age_seconds: float = setting(
        0, "ask clients to reconnect after this time, in s; 0: never; grpcio transport only", least=0
    )
    trusted_proxies: str = setting(
        "",
        "addresses and networks of proxies, by commas (`unix`: Unix sockets), whose x-forwarded-for says who calls; "
        "callers behind any other are one caller to the fair queue",
    )


@dataclass(frozen=True, kw_only=True)
class SecurityConfig(Settings):
    """Authentication, authorisation and TLS."""

    tls_certificate: Path | None = setting(None, "PEM file of the certificate chain; enables TLS")
    tls_key: Path | None = setting(None, "PEM file of the certificate's private key")
    tls_client_ca: Path | None = setting(
        None, "PEM file of certificate authorities; clients need a certificate from one of them (mutual TLS)"
    )
    token_file: Path | None = setting(
        None, "file of bearer tokens, one `RIGHT TOKEN` per line; enables token authentication"
    )
    model_control: bool = setting(False, "allow clients to load and unload models on the gRPC port too")
    admin_host: str = setting("127.0.0.1", "address of the admin port")
    admin_port: int | None = setting(None, "port on which clients may load and unload models; off unless set", **_PORTS)
    require_signature: Path | None = setting(
        None, "PEM file of an elliptic-curve public key; serve only bundles whose model.sig it verifies"
    )


@dataclass(frozen=True, kw_only=True)
class ObservabilityConfig(Settings):
    """Logs and traces."""

    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "minimum level of log lines")
    log_format: Literal["text", "json"] = setting("text", "`text`: lines for people; `json`: one JSON object per line")
    load_reports: Literal["off", "stream", "calls"] = setting(
        "stream",
        "ORCA load reports for balancers: `stream`: to those that ask for a stream of them; `calls`: in trailers of "
        "unary answers as well",
    )
    otlp_endpoint: str | None = setting(
        None, "OTLP/gRPC endpoint for traces, such as http://collector:4317; off unless set"
    )
    trace_sample_ratio: float = setting(
        1.0, "share of requests traced when the caller has not decided, 0 to 1", least=0, most=1
    )


@dataclass(frozen=True, kw_only=True)
class Config(
    BatchingConfig, LimitsConfig, HeavyConfig, ConnectionConfig, SecurityConfig, ObservabilityConfig, SessionConfig
):
    """Settings of `python -m server`; each is also the environment variable HOURGLASS_<NAME>."""

    repository: Path = setting(..., "directory of model bundles: <repository>/<name>/<version>/model.json")
    host: str = setting("127.0.0.1", "address or name to listen on, or unix:/path for a Unix socket")
    port: int = setting(8001, "gRPC port; 0: any free port", **_PORTS)
    rest_port: int | None = setting(
        None,
        "port of the Open Inference Protocol and autoencoder.v1 over HTTP; off unless set; needs the extra `rest`",
        **_PORTS,
    )
    rest_head_seconds: float = setting(
        10, "time limit for a TLS handshake, and for receiving the head of an HTTP request, in s", above=0
    )
    rest_body_seconds: float = setting(30, "time limit for receiving the body of an HTTP request, in s", above=0)
    rest_write_seconds: float = setting(
        30, "close an HTTP connection whose client reads nothing of its answer for this time, in s", above=0
    )
    rest_unread_bytes: int = setting(
        256 * 1024 * 1024,
        "maximum total size of the HTTP answers that clients have not read, in bytes; above it, connections that have "
        "waited longest are closed",
        least=1,
    )
    explorer: bool = setting(True, "serve the explorer, a page to see and walk latent spaces, on the REST port")
    metrics_host: str | None = setting(None, "address of the metrics port; default: that of --host")
    metrics_port: int = setting(8002, "port of /metrics, /livez and /readyz; 0: any free port", **_PORTS)
    transport: Literal["auto", "native", "grpcio"] = setting(
        "auto",
        "`auto`: native if pygrpc-native is installed, TLS is off and --host can be reached from this machine only, "
        "otherwise grpcio",
    )
    reflection: bool = setting(True, "answer gRPC server reflection")
    versions: str = setting("latest", "versions to serve: latest, all, or a list such as 1,3")
    max_model_bytes: int = setting(
        2 * 1024**3, "maximum total size of the files of a version, in bytes; a larger one is rejected unread", least=1
    )
    max_run_bytes: int = setting(
        MAX_RUN_BYTES,
        "maximum estimated memory of a graph with its largest warm-up batch, in bytes; checked before anything runs",
        least=1,
    )
    poll_seconds: float = setting(5, "interval between scans for new versions, in s; 0: never", least=0)
    strict_readiness: bool = setting(
        False, "become ready when every model in the repository serves; stay ready while those that have served do"
    )
    drain_seconds: float = setting(30, "time to answer accepted requests when stopping, in s", above=0)
    lame_duck_seconds: float | None = setting(
        None,
        "time to keep serving while not ready when stopping, before new calls are refused, in s; default: 3 where "
        "--host can be reached from other machines, otherwise 0",
        least=0,
    )
    io_threads: int = setting(0, "I/O threads of the native transport; 0: half the cores, 4 at most", least=0)
    spin_microseconds: float = setting(
        200,
        "how long the native transport polls for the next request before it sleeps, in µs; not on a single core",
        least=0,
    )

    def __post_init__(self) -> None:
        """Take addresses as URLs write them: [::1], unix:///path."""
        for name in ("host", "admin_host", "metrics_host"):
            if isinstance(got := getattr(self, name), str):
                object.__setattr__(self, name, plain_host(got))
        super().__post_init__()

    @property
    def lame_duck(self) -> float:
        """The lame-duck time in seconds: balancers look at servers that other machines can reach."""
        if self.lame_duck_seconds is None:
            return 0.0 if is_loopback(self.host) else _LAME_DUCK_SECONDS
        return self.lame_duck_seconds

    def problems(self) -> list[str]:
        """What is wrong with settings together."""
        plain = self.tls_certificate is None
        wrong = (
            (
                not all((self.host, self.admin_host)) or self.metrics_host == "",
                "--host, --admin-host, --metrics-host: expected an address or a name, 127.0.0.1 for example, got ''",
            ),
            (
                is_unix(self.admin_host) or is_unix(self.metrics_host or ""),
                "--admin-host, --metrics-host: expected an address or a name, got a Unix socket",
            ),
            (
                is_unix(self.host) and self.rest_port is not None,
                "--rest-port needs a --host with an address, got a Unix socket",
            ),
            (
                self.versions not in {"latest", "all"} and not all(map(_is_version, self.versions.split(","))),
                f"--versions (HOURGLASS_VERSIONS): {_VERSION_POLICIES}, got {self.versions!r}",
            ),
            (
                not _are_proxies(self.trusted_proxies),
                f"--trusted-proxies (HOURGLASS_TRUSTED_PROXIES): {_PROXIES}, got {self.trusted_proxies!r}",
            ),
            (
                self.max_queue_rows < self.max_request_rows,
                f"--max-queue-rows: expected at least --max-request-rows, {self.max_request_rows}",
            ),
            (
                plain != (self.tls_key is None),
                "expected both of --tls-certificate and --tls-key, got one of them",
            ),
            (
                plain and self.tls_client_ca is not None,
                "--tls-client-ca needs --tls-certificate and --tls-key",
            ),
            (
                not plain and self.transport == "native",
                "the native transport has no TLS: expected --transport grpcio or auto with a certificate",
            ),
            (
                plain and self.token_file is not None and not self._is_local(),
                "tokens would leave this machine unencrypted: set --tls-certificate and --tls-key",
            ),
            (
                self._has_remote_model_control() and self.token_file is None and self.tls_client_ca is None,
                "any client on the network could load and unload models: set --token-file or --tls-client-ca",
            ),
        )
        return [sentence for holds, sentence in wrong if holds]

    def _is_local(self) -> bool:
        return is_loopback(self.host) and (self.admin_port is None or is_loopback(self.admin_host))

    def _has_remote_model_control(self) -> bool:
        hosts = [self.host] * self.model_control + [self.admin_host] * (self.admin_port is not None)
        return not all(map(is_loopback, hosts))


def _are_proxies(text: str) -> bool:
    try:
        TrustedProxies(text)
    except ValueError:
        return False
    return True


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER and int(text) > 0
