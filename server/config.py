"""Every setting of the server: a flag, an environment variable, a default, a unit."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class BatchingConfig(BaseModel):
    """When a batch leaves, how large it is, how many run at a time, and how much may wait."""

    max_batch_rows: NonNegativeInt = Field(0, description="rows of a graph run at most; 0: measured at warm-up")
    max_queue_delay_ms: NonNegativeFloat = Field(0, description="time that a batch may wait to fill, in ms")
    max_queue_rows: PositiveInt = Field(8192, description="rows that may wait per model")
    concurrent_runs: NonNegativeInt = Field(0, description="runs of one graph at a time; 0: measured at warm-up")
    inline_run_microseconds: NonNegativeFloat = Field(
        100, description="graphs whose single run is at most this long run on the transport's own thread"
    )


class LimitsConfig(BaseModel):
    """What one request may ask for."""

    max_request_rows: PositiveInt = Field(1024, description="images or latents per request, and count of Sample")
    max_message_bytes: PositiveInt = Field(64 * 1024 * 1024, description="size of a request, in bytes")
    max_image_pixels: PositiveInt = Field(4_194_304, description="pixels of an encoded image, before decoding")
    max_request_pixels: PositiveInt = Field(
        67_108_864, description="pixels of all encoded images of a request together, before decoding"
    )


class ConnectionConfig(BaseModel):
    """What one caller may hold of the transport."""

    max_connections: PositiveInt = Field(4096, description="connections at a time; grpcio transport only")
    max_concurrent_streams: PositiveInt = Field(1024, description="calls at a time per connection")
    max_header_bytes: PositiveInt = Field(16_384, description="size of a call's metadata, in bytes")
    max_connection_age_seconds: NonNegativeFloat = Field(
        0, description="ask clients to connect anew after this time, in s; 0: never; grpcio transport only"
    )


class SecurityConfig(BaseModel):
    """Who may call, and over what."""

    tls_certificate: Path | None = Field(None, description="PEM file of the certificate chain; turns TLS on")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities whose clients alone may connect (mutual TLS)"
    )
    token_file: Path | None = Field(None, description="file of bearer tokens, `RIGHT TOKEN` a line; turns them on")
    model_control: bool = Field(default=False, description="load and unload models on request at the gRPC port too")
    admin_host: str = Field("127.0.0.1", description="address of the admin port")
    admin_port: Port | None = Field(None, description="port that loads and unloads models on request; off unless set")
    require_signature: Path | None = Field(
        None, description="PEM file of an elliptic-curve public key; serve only bundles whose model.sig it verifies"
    )


class ObservabilityConfig(BaseModel):
    """What the server tells about itself, besides its metrics."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["text", "json"] = Field("text", description="lines for people or JSON objects")
    otlp_endpoint: str | None = Field(
        None, description="OTLP/gRPC endpoint for traces, such as http://collector:4317; off unless set"
    )
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="share of the requests that are traced where the caller has not decided, 0 to 1"
    )


class SessionConfig(BaseModel):
    """How onnxruntime runs the graphs."""

    device: Device = Field("auto", description="cuda refuses to start without CUDA, auto then takes the CPU")
    intra_op_threads: PositiveInt = Field(1, description="CPU threads of one graph run")
    cuda_device: NonNegativeInt = Field(0, description="number of the CUDA device")
    cuda_graphs: bool = Field(default=False, description="capture a CUDA graph per batch bucket")
    cuda_memory_limit_bytes: NonNegativeInt = Field(0, description="memory per CUDA session, in bytes; 0: no limit")


class Config(  # pyright: ignore[reportIncompatibleVariableOverride] (pydantic merges them)
    BatchingConfig,
    LimitsConfig,
    ConnectionConfig,
    SecurityConfig,
    ObservabilityConfig,
    SessionConfig,
    BaseSettings,
):
    """Settings of `python -m server`; each is also HOURGLASS_<NAME> in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="HOURGLASS_",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_prog_name="python -m server",
        extra="forbid",
    )

    repository: Path = Field(description="folder of model bundles: <repository>/<name>/<version>/model.json")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(8001, description="gRPC port; 0 takes a free one")
    rest_port: Port | None = Field(
        None, description="port of the Open Inference Protocol over HTTP; off unless set; needs the extra `rest`"
    )
    metrics_port: Port = Field(8002, description="port of /metrics, /livez and /readyz; 0 takes a free one")
    transport: Literal["auto", "native", "grpcio"] = Field(
        "auto", description="auto is native (pygrpc-native) where it is installed and TLS is off, else grpcio"
    )
    reflection: bool = Field(default=True, description="answer gRPC server reflection")
    versions: str = Field("latest", description="versions to serve: latest, all, or a list such as 1,3")
    poll_seconds: NonNegativeFloat = Field(5, description="look for new versions this often, in s; 0: never")
    strict_readiness: bool = Field(default=False, description="ready only when every model of the repository serves")
    drain_seconds: PositiveFloat = Field(30, description="time to answer what was accepted when stopping, in s")
    lame_duck_seconds: NonNegativeFloat = Field(
        0, description="time to go on serving as not ready before refusing new calls when stopping, in s"
    )
    io_threads: NonNegativeInt = Field(0, description="threads of the native transport; 0: half the cores, 4 at most")
    heavy_threads: PositiveInt = Field(2, description="threads that decode images and large messages")

    @field_validator("versions")
    @classmethod
    def _known_policy(cls, value: str) -> str:
        if value not in {"latest", "all"} and not all(_is_version(part) for part in value.split(",")):
            raise ValueError(f"wanted latest, all, or version numbers such as 1,3, got {value!r}")
        return value

    @model_validator(mode="after")
    def _roomy(self) -> Self:
        if self.max_queue_rows < self.max_request_rows:
            raise ValueError(
                f"wanted --max-queue-rows of at least --max-request-rows, {self.max_request_rows}, "
                f"because a larger request could never be served, got {self.max_queue_rows}"
            )
        return self

    @model_validator(mode="after")
    def _secure(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("wanted both of --tls-certificate and --tls-key, got one of them")
        if self.tls_certificate is None and self.tls_client_ca is not None:
            raise ValueError("--tls-client-ca works with --tls-certificate and --tls-key alone")
        if self.tls_certificate is not None and self.transport == "native":
            raise ValueError("the native transport has no TLS: wanted --transport grpcio or auto beside a certificate")
        if self.token_file is not None and self.tls_certificate is None and not self._stays_here():
            raise ValueError("tokens travel beyond this machine only under TLS: give --tls-certificate and --tls-key")
        return self

    def _stays_here(self) -> bool:
        return is_loopback(self.host) and (self.admin_port is None or is_loopback(self.admin_host))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explain(error: ValidationError | SettingsError) -> str:
    """One sentence for each setting that is wrong."""
    if isinstance(error, SettingsError):
        return str(error)
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        if not problem["loc"]:
            lines.append(problem["msg"])
            continue
        name = str(problem["loc"][0])
        flag = f"--{name.replace('_', '-')} (HOURGLASS_{name.upper()})"
        came = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
        lines.append(f"{flag}: {problem['msg']}{came}")
    return "; ".join(lines)


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) > 0
