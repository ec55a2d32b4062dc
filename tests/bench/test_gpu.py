"""Checks for a CUDA card: without a card, the page, and the code of every check on the CPU."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gpu import page
from bench.gpu.__main__ import card_of_this_machine, checks, main, run
from bench.gpu.cuda_unavailable import filled
from bench.gpu.outcome import ROOT, Outcome, Setting, Unavailable
from tests.server.conftest import GOLDEN

DAMAGED = "not an ONNX graph"


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(GOLDEN, tmp_path, "cpu", 0.3)


def outcomes(name: str, setting: Setting) -> list[Outcome]:
    return run(checks([name]), setting)


def without_card(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`make gpu-check` where nothing but Python is installed and nvidia-smi is not on the path."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "awk", "make"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(shutil.which(name) or name)
    bare = f"{sys.base_prefix}/bin/python3 -S"
    line = ["make", "--silent", "gpu-check", f"PYTHON={bare}", f"GPU={' '.join(flags)}"]
    return subprocess.run(
        line, cwd=ROOT, env={**os.environ, "PATH": str(tools)}, capture_output=True, text=True, check=False
    )


def test_without_a_card_the_target_says_so_and_installs_nothing(tmp_path: Path) -> None:
    page_file = tmp_path / "gpu.md"
    ended = without_card(tmp_path, "--page", str(page_file))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("gpu-check: no CUDA card found")
    assert len(ended.stdout.splitlines()) == 1
    assert page_file.read_text() == page.empty()
    assert not (ROOT / "build" / "gpu").exists() or card_of_this_machine()


def test_with_a_card_and_another_onnxruntime_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'A Card, 1.0, 100 MiB'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    page_file = tmp_path / "gpu.md"
    # The tests run with the onnxruntime without CUDA.
    assert main(["--page", str(page_file)]) == 2
    assert "built without CUDA" in capsys.readouterr().err
    assert not page_file.exists()


def test_a_page_with_results_is_kept(tmp_path: Path) -> None:
    page_file = tmp_path / "gpu.md"
    page_file.write_text(page.results({"card": "a card"}, [Outcome("one", "passed", "1 | 2")]))
    before = page_file.read_bytes()
    assert "keeps the results" in without_card(tmp_path, "--page", str(page_file)).stdout
    assert page_file.read_bytes() == before
    assert b"| one | passed | 1 \\| 2 |" in before
    assert b"1 passed, 0 failed, 0 skipped" in before


def test_the_page_of_the_repository_is_one_of_the_two() -> None:
    page_file = (ROOT / "docs" / "gpu.md").read_text()
    assert page_file == page.empty() or (page.NOT_YET_RUN not in page_file and "| check | result |" in page_file)


@pytest.mark.parametrize("name", ["provider", "parity", "invariance", "search", "binding", "cuda_graphs"])
def test_check_passes_on_the_cpu(name: str, setting: Setting) -> None:
    got = outcomes(name, setting)
    assert got
    assert [each for each in got if each.state != "passed"] == []


def test_throughput_is_measured_on_both_sides(setting: Setting) -> None:
    got = outcomes("throughput", setting)
    assert len(got) == 4
    for each in got:
        served, offline = (
            float(part.split()[0].replace(",", "")) for part in (each.sentence, each.sentence.split("), ")[1])
        )
        assert served > 100
        assert offline > 100
        assert each.state == ("passed" if served / offline >= 0.85 else "failed")


@pytest.mark.slow
def test_plateau_is_measured_each_round(setting: Setting) -> None:
    (got,) = outcomes("plateau", setting)
    assert got.state == "passed", got.sentence
    assert got.sentence.count(", ") == 4


def test_without_cuda_the_server_fails_or_falls_back(setting: Setting) -> None:
    got = outcomes("missing_libraries", setting) + outcomes("no_memory_for_a_start", setting)
    assert [each.state for each in got] == ["passed"] * 5
    assert "exit code 1: --device cuda: this onnxruntime is built without CUDA" in got[0].sentence
    assert got[1].sentence == "serves on CPUExecutionProvider"


def test_a_version_that_fails_to_load_does_not_affect_the_other(setting: Setting) -> None:
    (got,) = outcomes("full_card", setting)
    assert got.state == "passed", got.sentence
    assert "another program took 64 MiB" in got.sentence
    assert re.search("version 2 is (refused|rejected)", got.sentence)


def test_memory_that_cannot_be_taken_is_reported() -> None:
    with pytest.raises(Unavailable, match="could not take the memory: 0"), filled("cuda", 1):
        pass


def test_damaged_models_fail(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "fc-ae", tmp_path / "models" / "fc-ae")
    setting = Setting(tmp_path / "models", tmp_path, "cpu", 0.1)
    (tmp_path / "models" / "fc-ae" / "1" / "encode.onnx").write_bytes(DAMAGED.encode())
    (got,) = outcomes("parity", setting)
    assert got.state == "failed"


def test_golden_vectors_of_another_model_fail(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "fc-ae", tmp_path / "models" / "fc-ae")
    version = tmp_path / "models" / "fc-ae" / "1"
    shutil.copy(GOLDEN / "denoiser" / "1" / "golden.npz", version / "golden.npz")
    assert {each.state for each in outcomes("parity", Setting(tmp_path / "models", tmp_path, "cpu"))} == {"failed"}


def test_exit_code_follows_the_outcomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--device", "cpu", "--only", "parity", "--page", str(tmp_path / "gpu.md")]
    assert main([*flags, "--repository", str(GOLDEN)]) == 0
    assert "a trial of the checks on the CPU" in (tmp_path / "gpu.md").read_text()
    damaged = tmp_path / "models"
    shutil.copytree(GOLDEN / "vae", damaged / "vae")
    (damaged / "vae" / "1" / "decode.onnx").write_bytes(b"")
    assert main([*flags, "--repository", str(damaged)]) == 1
    assert "failed  parity" in capsys.readouterr().out
