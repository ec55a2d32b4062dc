"""The house rules that a linter does not know: sizes, names, and a test for every module."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
PROGRAMS = ("server", "training", "export", "bundle", "client/hourglass_client", "deploy/batch", "deploy/ray")
MAX_MODULES = 15
# Modules without a test of their own name, and the test that covers each.
COVERED_BY = {
    "bundle/graph_memory/sequences.py": "bundle/graph_memory/test_operators.py",
    "bundle/graph_memory/images.py": "bundle/graph_memory/test_operators.py",
    "bundle/graph_memory/node.py": "bundle/graph_memory/test_operators.py",
    "bundle/graph_memory/values.py": "bundle/graph_memory/test_operators.py",
    "bundle/graph_proto.py": "bundle/test_graph.py",
    "client/hourglass_client/aio.py": "client/test_calls.py",
    "client/hourglass_client/async_connection.py": "client/test_calls.py",
    "client/hourglass_client/answers.py": "client/test_streams.py",
    "client/hourglass_client/bands/jobs.py": "client/bands/test_split.py",
    "client/hourglass_client/bands/sources.py": "client/bands/test_split.py",
    "client/hourglass_client/cli/calls.py": "client/cli/test_main.py",
    "client/hourglass_client/cli/commands.py": "client/cli/test_main.py",
    "client/hourglass_client/cli/load_test.py": "client/cli/test_main.py",
    "client/hourglass_client/cli/results.py": "client/cli/test_drawing.py",
    "client/hourglass_client/client.py": "client/test_calls.py",
    "client/hourglass_client/connection.py": "client/test_calls.py",
    "deploy/batch/engine.py": "deploy/batch/test_worker.py",
    "deploy/batch/errors.py": "deploy/batch/test_main.py",
    "deploy/batch/options.py": "deploy/batch/test_main.py",
    "deploy/batch/tasks.py": "deploy/batch/test_worker.py",
    "deploy/ray/actors.py": "deploy/cluster/test_cluster.py",
    "export/checkpoint.py": "export/test_main.py",
    "export/errors.py": "export/test_main.py",
    "export/gate/golden.py": "export/test_golden_repository.py",
    "export/gate/images.py": "export/gate/test_gate.py",
    "export/gate/inputs.py": "export/gate/test_gate.py",
    "export/gate/latency.py": "export/gate/test_quantized.py",
    "export/gate/parity.py": "export/gate/test_gate.py",
    "export/gate/report.py": "export/test_main.py",
    "export/gate/structure.py": "export/gate/test_gate.py",
    "export/gate/tiling/axes.py": "export/gate/tiling/test_halo.py",
    "export/gate/tiling/reach.py": "export/gate/tiling/test_halo.py",
    "export/gate/tiling/rearranging.py": "export/gate/tiling/test_halo.py",
    "export/gate/tiling/sliding.py": "export/gate/tiling/test_halo.py",
    "export/gate/tiling/step.py": "export/gate/tiling/test_halo.py",
    "export/gate/weights.py": "export/gate/test_gate.py",
    "export/graphs/metadata.py": "export/graphs/test_build.py",
    "export/graphs/methods.py": "export/graphs/test_build.py",
    "export/importing/adapt.py": "export/importing/test_importer.py",
    "export/importing/facts.py": "export/importing/test_importer.py",
    "export/importing/ranges.py": "export/importing/test_importer.py",
    "export/publication/signing.py": "bundle/test_signing.py",
    "export/text_table.py": "export/inspection/test_results_table.py",
    "server/rest/failures.py": "server/rest/test_app.py",
    "server/addresses.py": "server/test_config.py",
    "server/app.py": "server/test_stopping.py",
    "server/services/sources.py": "server/services/autoencoder/test_generation.py",
    "server/batching/entry.py": "server/batching/test_batcher.py",
    "server/batching/executor.py": "server/batching/test_batcher_failures.py",
    "server/batching/offload_pool.py": "server/batching/test_batcher_failures.py",
    "server/batching/row_queue.py": "server/batching/test_admission.py",
    "server/batching/run.py": "server/batching/test_batcher.py",
    "server/calls/call.py": "server/test_statuses.py",
    "server/calls/interruption.py": "server/calls/test_waiting.py",
    "server/calls/observer.py": "server/test_log.py",
    "server/calls/request_log.py": "server/test_log.py",
    "server/calls/tracing.py": "server/calls/test_otlp.py",
    "server/codec/protobuf_wire.py": "server/services/test_response_writer.py",
    "server/codec/tensors.py": "server/test_statuses.py",
    "server/errors.py": "server/test_statuses.py",
    "server/execution_config.py": "server/test_config.py",
    "server/file_watch.py": "server/transport/test_tls.py",
    "server/metrics/model_metrics.py": "server/metrics/test_registry.py",
    "server/metrics/run_statistics.py": "server/services/open_inference/test_service.py",
    "server/metrics_server.py": "server/test_untrusted_clients.py",
    "server/rest/bridge.py": "server/rest/test_app.py",
    "server/rest/infer_json.py": "server/rest/test_bodies.py",
    "server/rest/json_arrays.py": "server/rest/test_bodies.py",
    "server/rest/json_messages.py": "server/rest/test_app.py",
    "server/services/autoencoder/service.py": "server/test_methods.py",
    "server/services/autoencoder/stream.py": "server/calls/test_streaming.py",
    "server/services/autoencoder/thresholds.py": "server/services/autoencoder/test_detection.py",
    "server/services/graph_calls.py": "server/test_methods.py",
    "server/services/open_inference/graphs.py": "server/services/open_inference/test_service.py",
    "server/services/open_inference/statistics.py": "server/services/open_inference/test_service.py",
    "server/services/open_inference/stream.py": "server/services/open_inference/test_ids.py",
    "server/services/open_inference/tensors.py": "server/services/open_inference/test_infer.py",
    "server/services/stream_limit.py": "server/services/test_health.py",
    "server/settings.py": "server/test_config.py",
    "server/transport/connections/begun_calls.py": "server/transport/connections/test_acceptor.py",
    "server/transport/connections/external.py": "server/transport/connections/test_acceptor.py",
    "server/transport/connections/probe.py": "server/transport/connections/test_acceptor.py",
    "server/transport/grpcio.py": "server/transport/test_transport_failures.py",
    "server/transport/grpcio_handlers.py": "server/test_untrusted_clients.py",
    "server/transport/grpcio_options.py": "server/test_untrusted_clients.py",
    "server/transport/grpcio_stream.py": "server/calls/test_streaming.py",
    "server/transport/native.py": "server/transport/test_transport_failures.py",
    "server/transport/reflection.py": "server/calls/test_auth.py",
    "server/transport/select.py": "server/test_config.py",
    "server/types.py": "server/batching/test_batcher.py",
    "training/data/batches.py": "training/test_known_defects.py",
    "training/data/folder_layout.py": "training/data/test_folders.py",
    "training/data/image_paths.py": "training/data/test_folders.py",
    "training/data/kinds.py": "training/test_main.py",
    "training/data/inspect.py": "training/data/test_folders.py",
    "training/data/pixel_range.py": "training/data/test_arrays.py",
    "training/data/split.py": "training/data/test_dataset.py",
    "training/errors.py": "training/test_main.py",
    "training/evaluation/evaluate.py": "training/test_commands.py",
    "training/evaluation/principal_components.py": "training/run/test_photographs.py",
    "training/figures/detection.py": "training/run/test_defects.py",
    "training/figures/latents.py": "training/test_commands.py",
    "training/figures/report.py": "training/test_train.py",
    "training/figures/run.py": "training/test_commands.py",
    "training/figures/style.py": "training/test_commands.py",
    "training/models/initial_weights.py": "training/models/test_autoencoders.py",
    "training/models/layers.py": "training/models/test_autoencoders.py",
    "training/random_streams.py": "training/test_known_defects.py",
    "training/recipe.py": "training/test_config.py",
    "training/reproduction/__main__.py": "training/reproduction/test_reproduction.py",
    "training/reproduction/defect_measures.py": "training/reproduction/test_defects.py",
    "training/reproduction/records.py": "training/reproduction/test_reproduction.py",
    "training/reproduction/results_page.py": "training/reproduction/test_reproduction.py",
    "training/reproduction/runs.py": "training/reproduction/test_reproduction.py",
    "training/reproduction/subprocesses.py": "training/reproduction/test_reproduction.py",
    "training/run/directory.py": "training/test_train.py",
    "training/run/metrics_log.py": "training/test_train.py",
    "training/run/stop_request.py": "training/test_main.py",
    "training/state.py": "training/test_checkpoint.py",
    "training/step.py": "training/test_train.py",
    "training/unused_settings.py": "training/test_config.py",
}


def tracked(*patterns: str) -> list[Path]:
    names = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in names.splitlines() if not GENERATED.search(name) and (ROOT / name).is_file()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


SOURCES = tracked("*.py")
MODULES = [path for path in tracked(*(f"{program}/*.py" for program in PROGRAMS)) if path.stem != "__init__"]


def mirrored(module: Path) -> Path:
    """tests/server/codec/test_images.py for server/codec/images.py."""
    place = module.relative_to(ROOT)
    place = Path("client", *place.parts[2:]) if place.parts[0] == "client" else place
    return ROOT / "tests" / place.parent / f"test_{place.stem.strip('_')}.py"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file_is_short_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem.rstrip("s") not in {"util", "helper", "misc", "common"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > 50
    ]
    assert not long


def test_folders_hold_few_modules() -> None:
    folders = Counter(name(path.parent) for path in MODULES + tracked("bench/*.py"))
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES} == {}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_has_a_test_of_its_name_or_says_which_covers_it(path: Path) -> None:
    covering = COVERED_BY.get(name(path))
    if mirrored(path).exists():
        assert covering is None, "it has a test of its own name: drop its line"
        return
    assert covering is not None, f"expected {name(mirrored(path))}, or a line in COVERED_BY"
    assert (ROOT / "tests" / covering).is_file()


def test_lines_about_modules_that_are_gone_go_too() -> None:
    assert COVERED_BY.keys() <= {name(path) for path in MODULES}


def test_nothing_left_undone() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|raise NotImplementedError)\b")
    left = [name(path) for path in SOURCES if path != Path(__file__).resolve() and words.search(path.read_text())]
    assert not left


def test_no_data_set_and_no_large_file_is_committed() -> None:
    large = [name(path) for path in tracked() if path.stat().st_size > 2 * 2**20]
    data = [name(path) for path in tracked() if re.search(r"ubyte(\.gz)?$", path.name)]
    assert not large
    assert not data
