"""Checks of the server without CUDA: libraries missing, memory exhausted."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from bench import targets
from bench.gpu import graphs
from bench.gpu.outcome import ROOT, Outcome, Setting, Unavailable, verdict
from bench.gpu.served import Served, command, serving
from bench.servers import ask
from bench.targets import Work
from bundle import layout
from bundle.runtime_options import PROVIDER_NAMES

CPU_PYTHON = ROOT / ".venv" / "bin" / "python"
WAIT_SECONDS = 90.0
TRIAL_MIB = 64
MESSAGE_CHARACTERS = 400


def missing_libraries(setting: Setting) -> list[Outcome]:
    """With the card hidden, and with an onnxruntime without CUDA: `cuda` fails, `auto` falls back to the CPU."""
    outcomes = _without_cuda("card hidden from CUDA", setting, sys.executable, {"CUDA_VISIBLE_DEVICES": ""})
    if CPU_PYTHON.exists():
        return outcomes + _without_cuda("onnxruntime without CUDA", setting, CPU_PYTHON, {})
    missing = f"needs {CPU_PYTHON.relative_to(ROOT)}, created by `make setup`"
    return [*outcomes, Outcome("onnxruntime without CUDA", "skipped", missing)]


def _without_cuda(how: str, setting: Setting, python: Path | str, environment: Mapping[str, str]) -> list[Outcome]:
    code, complaint = _refusal(setting, python, environment)
    with serving(setting, python=python, environment=environment, device="auto") as served:
        providers = served.providers()
    return [
        verdict(
            f"{how}: `--device cuda`",
            f"exit code {code}: {complaint}",
            holds=code == 1 and "--device cuda: " in complaint,
        ),
        verdict(
            f"{how}: `--device auto`",
            f"serves on {', '.join(sorted(providers))}",
            holds=providers == {PROVIDER_NAMES["cpu"]},
        ),
    ]


def _refusal(
    setting: Setting, python: Path | str, environment: Mapping[str, str], *flags: str
) -> tuple[int | None, str]:
    """Exit code and error of a server that should fail with `--device cuda`; the error is empty if it prints none.

    The code is None if the server keeps running.
    """
    line = command(python, setting.repository, "cuda", "--port", "0", "--metrics-port", "0", *flags)
    try:
        ended = subprocess.run(
            line, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, **environment}
        )
    except subprocess.TimeoutExpired:
        return None, "it serves"
    # onnxruntime logs before it, and its reasons span several lines.
    _, _, sentence = ended.stderr.rpartition("python -m server: ")
    return ended.returncode, " ".join(sentence.split())[:MESSAGE_CHARACTERS]


def no_memory_for_a_start(setting: Setting) -> list[Outcome]:
    """One byte of GPU memory for a session: the server fails to start and gives the reason."""
    code, complaint = _refusal(setting, sys.executable, {}, "--cuda-memory-limit-bytes", "1")
    reason = "memory" if setting.device == "cuda" else "CUDA"
    return [
        verdict(
            "no memory for a start",
            f"exit code {code}: {complaint}",
            holds=code == 1 and complaint.startswith("--device cuda: ") and reason in complaint,
        )
    ]


def full_card(setting: Setting) -> list[Outcome]:
    """A second version arrives while the memory is taken: it is rejected, and the first answers as before.

    Without a card, a damaged graph replaces the lack of memory.
    """
    graph = graphs.heavy(setting.repository)[0]
    repository = setting.scratch / "full"
    first, second = (repository / graph.model / version for version in ("1", "2"))
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(graph.file.parent, first)
    _rename(first, "1")
    with serving(setting, "--poll-seconds", "0.2", repository=repository) as served:
        target = targets.hourglass(Work("", graph.model, graph.signature.name, graph.inputs(1), graph.inputs(1)))
        before = target.read(ask(served.address, target))
        with filled(setting.device, TRIAL_MIB if setting.device == "cpu" else None) as taken:
            _publish(first, second, damaged=graph.file.name if setting.device == "cpu" else None)
            results = _load_results(served)
            rejected = re.findall(r"version 2 is (?:refused|rejected).*", served.log.read_text())
            same = bool((target.read(ask(served.address, target)) == before).all())
        serves = {dict(labels)["version"] for labels in served.values("autoencoder_model_info")}
    loaded, answers = ", ".join(results) or "no load", "as before" if same else "otherwise"
    summary = f"{taken}; version 2: {loaded}; version 1 answers {answers}"
    summary += "".join(f"; {line[:MESSAGE_CHARACTERS]}" for line in rejected[-1:])
    if results == {"ok"}:
        return [Outcome("memory full", "skipped" if same else "failed", f"{summary}: there was enough memory")]
    return [
        verdict(
            "memory full",
            f"{summary}; serves: {', '.join(serves)}",
            holds=bool(results and rejected) and same and serves == {"1"},
        )
    ]


def _publish(first: Path, second: Path, damaged: str | None) -> None:
    shutil.copytree(first, second.with_name("new"))
    _rename(second.with_name("new"), "2")
    if damaged:
        (second.with_name("new") / damaged).write_bytes(b"damaged")
    second.with_name("new").rename(second)


def _rename(folder: Path, version: str) -> None:
    model = layout.read_model(folder)
    model.version = version
    (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))


def _load_results(served: Served) -> set[str]:
    """Results of the loads after the first."""
    end = monotonic() + WAIT_SECONDS
    while monotonic() < end:
        loads = {
            dict(labels)["result"]: count for labels, count in served.values("autoencoder_model_loads_total").items()
        }
        if sum(loads.values()) > 1:
            return {result for result, count in loads.items() if count > (result == "ok")}
        sleep(0.2)
    return set()


@contextmanager
def filled(device: str, limit_mib: int | None) -> Iterator[str]:
    """Another program holds the device's memory; yields a sentence that says how much.

    Raises:
        Unavailable: it took nothing.
    """
    limit = [] if limit_mib is None else [str(limit_mib)]
    line = [sys.executable, "-m", "bench.gpu.fill_memory", device, *limit]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            taken, _, reason = process.stdout.readline().strip().partition(" ")
            if not taken.isdecimal() or not int(taken):
                raise Unavailable(f"another program could not take the memory: {taken} {reason}")
            yield f"another program took {int(taken):,} MiB"
        finally:
            process.kill()
