import json
from pathlib import Path

import bundles
import pytest

from export.__main__ import main

GRAPH = {
    "max_abs_error": 1.234e-7,
    "row_alone_difference": 3e-7,
    "batch_buckets": [{"rows": 1, "best_ms": 0.5}, {"rows": 8, "best_ms": 1.25}],
}


def with_report(name: str, folder: Path) -> Path:
    version = bundles.copied(name, folder)
    signatures = ("classify", "decode", "denoise", "encode", "reconstruct")
    report = {"seconds": 12.3, "cpu_seconds": 8.1, "graphs": dict.fromkeys(signatures, GRAPH)}
    (version / "report.json").write_text(json.dumps(report))
    return version


def test_one_row_per_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_report("fc-ae", tmp_path)
    version = with_report("denoiser", tmp_path)
    bundles.change_model(version, lambda model: setattr(model.signatures[0], "batch_invariant", False))
    (tmp_path / "empty").mkdir()
    assert main(["table", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + 3
    assert lines[2] == "| denoiser | blobs | denoise | 3 | 1.2e-07 | 3.0e-07 apart | 0.50 / 1.25 | 12 (8) |"
    assert lines[3].startswith("| fc-ae | blobs | decode | 2 | 1.2e-07 | the same bits |")
    assert lines[4].startswith("|  |  | encode |")


def test_bad_input_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(tmp_path)]) == 2
    assert "expected a repository with models" in capsys.readouterr().err
    bundles.copied("vae", tmp_path)
    assert main(["table", str(tmp_path)]) == 2
    assert "expected a version with its report" in capsys.readouterr().err
