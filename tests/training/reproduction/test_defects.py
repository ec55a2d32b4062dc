import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from training import checkpoint
from training.data.defects import textures
from training.data.defects.textures import KINDS, TEXTURES
from training.reproduction import defect_measures, defects, records
from training.reproduction.records import Cost, Record


def record(name: str, **metrics: float) -> Record:
    return Record(name, f"python -m training {name}", 0, 25, Cost(90, 60), "2026-11-28", "a machine", "abc", metrics)


def written(kept: Path) -> None:
    (kept / "measures").mkdir(parents=True)
    found = record("defects", pixel_auroc=0.96, pro=0.9, image_auroc=0.94, f1=0.8)
    measured = defect_measures.Measured(
        dict.fromkeys(KINDS, 0.95),
        0.7,
        "8 components",
        1_000,
        [(0.01, 0.012, 0.003, 0.02), (0.1, 0.2, 0.07, 0.14)],
        0.3,
    )
    for texture in TEXTURES:
        (kept / f"{texture}.json").write_text(json.dumps(dataclasses.asdict(found)))
        (kept / "measures" / f"{texture}.json").write_text(json.dumps(dataclasses.asdict(measured)))
    for digit in "01":
        values = dataclasses.asdict(record("one-class", image_auroc=0.97 + int(digit) / 100))
        (kept / f"digit-{digit}.json").write_text(json.dumps(values))


def test_the_page_is_written_from_what_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "kept")
    (tmp_path / "kept" / "tried.md").write_text("## Tried\n")
    defects.publish(tmp_path / "runs", tmp_path / "page.md", tmp_path / "kept")
    page = (tmp_path / "page.md").read_text()
    assert "| mean | **0.960** | 0.900 | 0.940 | 0.800 |" in page
    assert "| 1.000% | 1.200% | 0.300% to 2.000% |" in page
    assert "| 10.000% | 20.000% | 7.000% to 14.000% (outside) |" in page
    assert "| 0.970 | 0.980 | **0.9750** |" in page
    assert "![brick](kept/brick.png)" in page
    assert page.endswith("## Tried\n")


def test_records_are_read_back(tmp_path: Path) -> None:
    written(tmp_path / "kept")
    assert set(records.collect(tmp_path / "runs", tmp_path / "kept")) == {*TEXTURES, "digit-0", "digit-1"}


@pytest.mark.parametrize("side", [0, 8])
def test_all_principal_components_draw_everything(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defect_measures, "_COMPONENTS", (1, 64))
    images = textures.normals("brick", textures.Stream.TRAIN, 0, 64)[..., 0] / np.float32(255)
    few, many = (errors for _, errors in defect_measures._errors(images, images[:2], side))
    assert few.shape == (2, textures.SIDE, textures.SIDE)
    assert many.max() < 1e-4 < few.mean()


def test_ctrl_c_lets_the_run_save_and_nothing_begins_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.reproduction.defects", "--data-dir", str(tmp_path), "--runs", "runs"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    saved = tmp_path / "runs" / "brick" / "latest" / checkpoint.STATE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, process_group=0) as process:
        while not saved.exists() and process.poll() is None:
            time.sleep(0.1)
        # As a terminal does it: to the group, in which the training is not.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 1
    assert "--resume" in (tmp_path / "runs" / "brick.log").read_text()
    assert [path.name for path in (tmp_path / "runs").glob("*.log")] == ["brick.log"]
