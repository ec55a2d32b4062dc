"""Configuration of execution: batches, sizes of a request, the pool for heavy work, graph sessions."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from server.settings import Settings, setting

Device: TypeAlias = Literal["auto", "cpu", "cuda", "openvino"]


@dataclass(frozen=True, kw_only=True)
class BatchingConfig(Settings):
    """Batching and queueing: batch size, delay, concurrent runs, queue limits."""

    max_batch_rows: int = setting(0, "maximum rows of a graph run; 0: measured at warm-up", least=0)
    max_queue_delay_ms: float = setting(0, "maximum time that a batch waits to fill, in ms", least=0)
    max_queue_rows: int = setting(8192, "maximum rows queued per model", least=1)
    max_queue_pixels: int = setting(
        134_217_728,
        "maximum pixels of images of free sizes, with noise levels, or to score, that wait or run per model",
        least=1,
    )
    fair_queue: bool = setting(
        True,
        "serve callers round-robin once more than two runs' worth of rows is queued; when the queue is over half full, "
        "cap each caller at the number of free rows",
    )
    concurrent_runs: int = setting(0, "concurrent runs of one graph; 0: measured at warm-up", least=0)
    inline_run_microseconds: float = setting(
        100, "run a graph on the transport's thread if a single run takes at most this long, in µs", least=0
    )


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(Settings):
    """Limits of one request."""

    max_request_rows: int = setting(1024, "maximum images or latents per request, and `count` of Sample", least=1)
    max_score_rows: int = setting(
        262_144, "maximum images times samples of a Score request: each is a row of its graph", least=1
    )
    max_message_bytes: int = setting(64 * 1024 * 1024, "maximum size of a request, in bytes", least=1)
    max_image_pixels: int = setting(4_194_304, "maximum pixels of an encoded image, checked before decoding", least=1)
    max_resized_pixels: int = setting(
        50_331_648,
        "maximum pixels of a JPEG file that is sent with `resize` and decoded at a reduced scale; a third of it if the "
        "file is progressive",
        least=1,
    )
    max_image_side: int = setting(
        65_535, "maximum width and height of an encoded image that is sent with `resize`, in pixels", least=1
    )
    max_image_scans: int = setting(32, "maximum scans of a JPEG file", least=1)
    max_image_parts: int = setting(
        16_384,
        "maximum markers, chunks, tag values and fill bytes of an encoded image, besides one for each 256 bytes of it",
        least=1,
    )
    max_untiled_pixels: int = setting(
        1_048_576,
        "maximum pixels of an image for graphs that look at the whole image, so that it cannot be run in tiles; less "
        "where --max-run-bytes would not do for one such image",
        least=1,
    )
    max_request_pixels: int = setting(
        67_108_864,
        "maximum total pixels of the images of a request: of encoded ones, checked before decoding, and where sizes "
        "are free also of those of a tensor, padded, and of those that are made",
        least=1,
    )


@dataclass(frozen=True, kw_only=True)
class HeavyConfig(Settings):
    """Thread pool for heavy work: decoding image files, large messages, drawing many latents, encoding PNG files."""

    heavy_threads: int = setting(2, "threads of the pool", least=1)
    max_heavy_jobs: int = setting(1024, "maximum requests that wait for the pool", least=1)
    max_heavy_bytes: int = setting(
        512 * 1024 * 1024,
        "maximum total size of the requests that wait for the pool, and of what has arrived of HTTP bodies, in bytes; "
        "above it, uploads slower than 64 KiB/s end first, then those of the address that holds most",
        least=1,
    )


@dataclass(frozen=True, kw_only=True)
class SessionConfig(Settings):
    """How onnxruntime runs graphs."""

    device: Device = setting(
        "auto", "`cuda` and `openvino` fail where they are unavailable; `auto` is CUDA, or else the CPU"
    )
    intra_op_threads: int = setting(1, "CPU threads of one graph run", least=1)
    cuda_device: int = setting(0, "number of the CUDA device", least=0)
    cuda_graphs: bool = setting(False, "capture a CUDA graph per batch bucket")
    run_timeout_seconds: float = setting(
        60,
        "withdraw a version when a graph run takes longer than this, in s; reload it once the run has ended",
        above=0,
    )
    load_timeout_seconds: float = setting(
        120, "reject a version when its load, self-test and warm-up take longer than this, in s", above=0
    )
    cuda_memory_limit_bytes: int = setting(0, "maximum memory per CUDA session, in bytes; 0: no limit", least=0)
