"""The numbers on the metrics page against what was sent."""

import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest
from autoencoder.v1 import autoencoder_pb2 as pb
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bundle.latents import LatentStatistics
from bundle.layout import LATENTS_FILE
from server.metrics.histogram import Histogram
from server.metrics.registry import DURATIONS_SECONDS, ERRORS, Metrics, RunSeries
from tests.deploy.conftest import component
from tests.server.conftest import GOLDEN, Served, copy_version, graph_run, images, metric, pixels, serving

# docs: name -> labels, for those that a server without a GPU shows from the start or after one request.
NAMES = {
    "autoencoder_requests": {"method", "model", "version", "code"},
    "autoencoder_request_duration_seconds": {"method", "model"},
    "autoencoder_queue_duration_seconds": {"model", "signature"},
    "autoencoder_run_duration_seconds": {"model", "signature"},
    "autoencoder_batch_size": {"model", "signature"},
    "autoencoder_rows": {"model", "version", "signature"},
    "autoencoder_queue_rows": {"model", "signature"},
    "autoencoder_requests_in_flight": {"method"},
    "autoencoder_dropped_rows": {"model", "signature", "reason"},
    "autoencoder_model_info": {"model", "version", "family", "provider", "opset"},
    "autoencoder_model_ready": {"model", "version"},
    "autoencoder_model_loads": {"model", "result"},
    "autoencoder_model_load_duration_seconds": {"model"},
    "autoencoder_self_test_max_error": {"model", "version", "signature"},
    "autoencoder_reconstruction_error": {"model", "version"},
    "autoencoder_reconstruction_error_quantile": {"model", "version", "level"},
    "autoencoder_latent_distance": {"model", "version"},
    "autoencoder_out_of_distribution": {"model", "version", "signal"},
    "autoencoder_out_of_distribution_alarm_ratio": {"model", "version"},
    "autoencoder_gpu_expected": set(),
    "autoencoder_build_info": {"version", "onnxruntime", "grpcio", "transport"},
    "process_resident_memory_bytes": set(),
    "python_gc_collections": {"generation"},
}


def page(served: Served) -> str:
    with urllib.request.urlopen(f"http://{served.metrics_address}/metrics", timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def fresh(transport: str) -> Iterator[Served]:
    with serving(GOLDEN, transport=transport, poll_seconds=0) as served:
        yield served


def test_every_name_with_its_labels(fresh: Served) -> None:
    batch = images(pixels(2))
    fresh.stub.Encode(pb.EncodeRequest(model_name="vae", images=batch))
    fresh.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=batch))
    families = {family.name: family for family in text_string_to_metric_families(page(fresh))}
    for name, labels in NAMES.items():
        assert name in families, name
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == labels, sample
    assert not {"autoencoder_gpu_memory_used_bytes", "autoencoder_gpu_utilization_ratio"} & set(families)


def test_a_model_that_is_idle_costs_few_series(fresh: Served) -> None:
    """Rows begin at 0 with the load, because what begins at 1 has not increased; histograms with the first call."""
    series = [line for line in page(fresh).splitlines() if not line.startswith("#")]
    for model in ("fc-ae", "vae", "denoiser", "multitask"):
        own = [line for line in series if f'model="{model}"' in line]
        assert 10 < len(own) <= 40
    assert 'autoencoder_rows_total{model="vae",signature="encode",version="1"} 0.0' in series
    fresh.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(pixels(2))))
    shown = {
        (line.split("{")[0], signature)
        for line in page(fresh).splitlines()
        for signature in ("encode", "decode")
        if line.split("_")[-1].startswith("count{") and f'model="vae",signature="{signature}"' in line
    }
    waits = ("queue_duration_seconds", "run_duration_seconds", "batch_size")
    assert shown == {(f"autoencoder_{name}_count", "encode") for name in waits}


def test_promtool_has_nothing_to_say_against_the_page(server: Served) -> None:
    batch = images(pixels(2))
    server.stub.Encode(pb.EncodeRequest(model_name="vae", images=batch))
    server.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=batch))
    # The names of the client library's own are not ours to choose.
    own = "".join(line for line in page(server).splitlines(keepends=True) if "autoencoder_" in line)
    command = [component("promtool"), "check", "metrics"]
    done = subprocess.run(command, input=own, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_requests_are_counted_by_what_became_of_them(fresh: Served) -> None:
    for _ in range(2):
        fresh.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(pixels(3))))
    for name in ("nobody", "denoiser"):
        with pytest.raises(grpc.RpcError):
            fresh.stub.Encode(pb.EncodeRequest(model_name=name, images=images(pixels(3))))
    for path in ("/autoencoder.v1.AutoencoderService/Guess", "/who.Knows/What"):
        with pytest.raises(grpc.RpcError):
            fresh.channel.unary_unary(path)(b"")
    counted = {
        tuple(sample.labels[label] for label in ("method", "model", "version", "code")): sample.value
        for family in fresh.app.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "autoencoder_requests_total"
    }
    assert counted == {
        ("Encode", "vae", "1", "OK"): 2,
        ("Encode", "", "", "NOT_FOUND"): 1,
        ("Encode", "denoiser", "1", "FAILED_PRECONDITION"): 1,
        ("unknown", "", "", "UNIMPLEMENTED"): 2,
    }
    assert metric(fresh, "autoencoder_requests_in_flight") == 0
    assert metric(fresh, "autoencoder_rows_total", signature="encode") == 6
    assert metric(fresh, "autoencoder_batch_size_sum") == 6
    assert metric(fresh, "autoencoder_queue_duration_seconds_count") == 2
    assert "who.Knows" not in page(fresh)


def test_drift_is_what_the_statistics_say(fresh: Served) -> None:
    statistics = LatentStatistics.from_bytes((GOLDEN / "vae" / "1" / LATENTS_FILE).read_bytes())
    batch = pixels(300)
    for cut in (slice(0, 1), slice(1, 40), slice(40, 300)):
        fresh.stub.Encode(pb.EncodeRequest(model_name="vae", images=images(batch[cut])))
        fresh.stub.Reconstruct(pb.ReconstructRequest(model_name="vae", images=images(batch[cut])))
    distances = statistics.distance(graph_run("encode", "vae", batch)[0])
    errors = graph_run("reconstruct", "vae", batch)[1]
    assert metric(fresh, "autoencoder_latent_distance_count") == 300
    assert metric(fresh, "autoencoder_latent_distance_sum") == pytest.approx(distances.sum())
    assert metric(fresh, "autoencoder_reconstruction_error_count") == 300
    assert metric(fresh, "autoencoder_reconstruction_error_sum") == pytest.approx(errors.sum(), rel=1e-5)
    outside = "autoencoder_out_of_distribution_total"
    expected = (distances > statistics.latent_distance_quantile(0.999)).sum()
    assert metric(fresh, outside, signal="latent") == expected
    assert (
        metric(fresh, outside, signal="reconstruction")
        == (errors > statistics.reconstruction_error_quantile(0.999)).sum()
    )


def test_drift_leaves_out_what_is_encoded_on_the_way_to_an_answer(fresh: Served) -> None:
    two = [images(pixels(1, seed=seed)) for seed in (1, 2)]
    fresh.stub.Interpolate(pb.InterpolateRequest(model_name="vae", from_images=two[0], to_images=two[1], steps=3))
    assert metric(fresh, "autoencoder_rows_total", signature="encode") == 2
    assert metric(fresh, "autoencoder_latent_distance_count") == 0


def test_gauges_of_an_unloaded_version_go_and_counters_stay(repository: Path) -> None:
    copy_version(repository, "vae", 1)
    with serving(repository, poll_seconds=0) as served:
        served.stub.Encode(pb.EncodeRequest(images=images(pixels(1))))
        served.app.manager.unload("vae")
        left = {
            line.split("{")[0] for line in page(served).splitlines() if 'model="vae"' in line and 'version="1"' in line
        }
    assert {"autoencoder_rows_total", "autoencoder_requests_total", "autoencoder_latent_distance_count"} <= left
    assert not left & {"autoencoder_model_info", "autoencoder_model_ready", "autoencoder_self_test_max_error"}


def test_two_servers_in_one_process_count_apart() -> None:
    with serving(GOLDEN, poll_seconds=0) as one, serving(GOLDEN, poll_seconds=0) as other:
        one.stub.ListModels(pb.ListModelsRequest())
        assert metric(one, "autoencoder_requests_total") == 1
        assert metric(other, "autoencoder_requests_total") == 0


def test_the_page_speaks_openmetrics_when_asked(server: Served) -> None:
    connection = HTTPConnection(server.metrics_address, timeout=10)
    connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.read().endswith(b"# EOF\n")
    connection.close()


def test_buckets() -> None:
    assert DURATIONS_SECONDS[0] == 0.0001
    assert DURATIONS_SECONDS[-1] == 10
    assert (ERRORS[0], ERRORS[-1], len(ERRORS)) == (1e-5, 1, 21)


def test_counts_survive_many_threads(fresh: Served) -> None:
    request = pb.EncodeRequest(model_name="vae", images=images(pixels(1)))
    threads = [
        threading.Thread(target=lambda: [fresh.stub.Encode(request) for _ in range(50)], name=str(number))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert re.search("autoencoder_build_info", page(fresh))
    assert metric(fresh, "autoencoder_requests_total", code="OK") == 400
    assert metric(fresh, "autoencoder_latent_distance_count") == 400


def test_series_of_a_version_that_is_loaded_do_not_begin_while_others_are_copied() -> None:
    metrics = Metrics()
    begun: list[bool] = []

    def begin() -> Histogram:
        begun.append(metrics.lock.locked())
        return Histogram(DURATIONS_SECONDS)

    for family in (metrics.queue_seconds, metrics.run_seconds, metrics.batch_rows):
        family.series.default_factory = begin
    RunSeries(metrics, "vae", "1", "encode")
    assert begun == [True] * 3


class Broken(Collector):
    """A driver that has gone."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        raise OSError("the card has fallen off the bus")


def test_a_page_that_cannot_be_made_says_where_the_reason_is(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(repository) as served:
        odd = urllib.request.Request(
            f"http://{served.metrics_address}/metrics", headers={"Accept": "application/openmetrics-text; version=abc"}
        )
        with urllib.request.urlopen(odd, timeout=10) as answer:  # noqa: S310
            assert b"autoencoder_build_info" in answer.read()
        served.app.metrics.registry.register(Broken())
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"http://{served.metrics_address}/metrics", timeout=10)
        assert "the card has fallen off the bus" in caplog.text
