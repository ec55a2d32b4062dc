import json
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from training import checkpoint
from training.reproduction import records, results_page, runs
from training.reproduction.__main__ import Runner, check, main
from training.reproduction.records import Cost
from training.reproduction.runs import RunSpec


def publish(vae_run: Path, folder: Path, cost: Cost) -> str:
    if not (folder / "runs" / "vae").exists():
        shutil.copytree(vae_run, folder / "runs" / "vae")
    records.write(folder / "runs" / "vae", "python -m training vae", cost)
    results_page.publish(folder / "runs", folder / "docs" / "results.md", folder / "docs" / "results")
    return (folder / "docs" / "results.md").read_text()


def test_the_page_says_what_ran_and_what_did_not(vae_run: Path, tmp_path: Path) -> None:
    page = publish(vae_run, tmp_path, Cost(90, 60, 300 * 2**20))
    assert "| `vae` | elbo_loss |" in page
    assert "(missed)" in page
    assert "| `conv-ae` | bce_per_pixel | not yet run |" in page
    assert "| `vae-10-epochs` | elbo_loss | not yet run |  |  | ≤ 104.5 |" in page
    assert "| `denoiser` | bce_per_pixel_at_noise_0.4 | not yet run |  |  |  |" in page
    assert "| 1.5 min | 1.0 min | 300 MiB |" in page
    assert "Together the 1 runs whose CPU time is known took 1 minutes of it" in page
    assert (tmp_path / "docs" / "results" / "vae-samples.png").is_file()
    assert "(results/vae-samples.png)" in page


def test_the_page_keeps_what_ran_elsewhere(vae_run: Path, tmp_path: Path) -> None:
    page = publish(vae_run, tmp_path, Cost(90, 60, 300 * 2**20))
    shutil.rmtree(tmp_path / "runs")
    results_page.publish(tmp_path / "runs", tmp_path / "docs" / "results.md", tmp_path / "docs" / "results")
    assert (tmp_path / "docs" / "results.md").read_text() == page
    kept = tmp_path / "docs" / "results" / "vae.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "remark": "less memory since"}))
    results_page.publish(tmp_path / "runs", tmp_path / "docs" / "results.md", tmp_path / "docs" / "results")
    assert "\n`vae`: less memory since.\n" in (tmp_path / "docs" / "results.md").read_text()


def test_the_page_shows_what_was_measured_since(vae_run: Path, tmp_path: Path) -> None:
    publish(vae_run, tmp_path, Cost(1))
    path = tmp_path / "runs" / "vae" / "best" / checkpoint.META
    meta = json.loads(path.read_text())
    scores = {"slant": {"spearman": 0.8, "class_kept": 0.95}}
    path.write_text(json.dumps({**meta, "metrics": {**meta["metrics"], "elbo_loss": 99.25}, "attributes": scores}))
    results_page.publish(tmp_path / "runs", tmp_path / "docs" / "results.md", tmp_path / "docs" / "results")
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "| `vae` | slant | spearman 0.800 (missed: ≥ 0.9), class_kept 0.950 |" in page
    assert "| `vae` | elbo_loss | **99.25 (n = 1)** | 99.25 | 99.25 |" in page


def test_a_resumed_run_claims_no_more_than_it_saw(vae_run: Path, tmp_path: Path) -> None:
    assert "at least 1.5 min" in publish(vae_run, tmp_path, Cost(90, resumed=True))


def test_every_run_that_is_missed_says_why() -> None:
    known = results_page.by_run(records.known(results_page.PICTURES))
    missed = [each for each in runs.RUNS if results_page.missing(each.config, known.get(each.name, []))]
    assert not [each.name for each in missed if not each.config.expected.shortfall]


def test_without_runs_nothing_is_claimed(tmp_path: Path) -> None:
    results_page.publish(tmp_path, tmp_path / "results.md", tmp_path / "pictures")
    page = (tmp_path / "results.md").read_text()
    assert "**" not in page
    assert page.count("| not yet run |") >= 12
    assert "Together" not in page


def tiny(name: str, *overrides: str, minutes: float = 1.0) -> RunSpec:
    return RunSpec(name, "fc-ae", ("run.epochs=1", *overrides), {"minutes": minutes})


@pytest.mark.slow
def test_runs_are_trained_side_by_side_and_a_failure_loses_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = RunSpec("bad", "fc-ae", ("run.epochs=1", "optimizer.learning_rate=1e30"), {"minutes": 0.5})
    assert not Runner(tmp_path, 2, "digits").train([bad, tiny("short"), tiny("long", minutes=7)])
    lines = capsys.readouterr().out.splitlines()
    # Two begin before any ends, the longest first; the third begins when there is room.
    assert {line.split(":")[0] for line in lines[:2]} == {"long", "short"}
    assert all("begins" in line for line in lines[:2])
    assert "begins" not in lines[2]
    assert any(line.startswith("bad: ended with 1: error: ") and "is not finite" in line for line in lines)
    assert not (tmp_path / "bad" / records.RECORD).exists()
    for name in ("short", "long"):
        record = records.read(tmp_path / name / records.RECORD)
        assert record.command == "python -m training fc-ae --data digits --out DIR --set run.epochs=1"
        assert 0.5 < record.cost.cpu_seconds < 10 * record.cost.wall_seconds
        # PyTorch alone takes more than the first, and no run on digits the second.
        assert 100 * 2**20 < record.cost.peak_memory_bytes < 2 * 2**30
        assert "SHA-256" in (tmp_path / f"{name}.log").read_text()


def test_a_finished_run_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / records.RECORD).write_text("{}")
    assert Runner(tmp_path, 1, "digits").train([tiny("done")])
    assert not capsys.readouterr().out


def test_what_a_recipe_leaves_open_becomes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.reproduction.__main__.cores", lambda: 8)
    for jobs, threads in ((1, 8), (2, 4), (3, 2), (16, 1)):
        runner = Runner(Path(), jobs, "mnist")
        assert runner.settings(RunSpec("x", "conv-ae")) == ["--set", f"device.threads={threads}"]
    assert Runner(Path(), 2, "mnist").settings(RunSpec("x", "fc-ae")) == []


def test_a_stop_reaches_all_that_runs_and_nothing_begins_after_it(tmp_path: Path) -> None:
    runner = Runner(tmp_path, 2, "digits")
    endless = [tiny(name, "run.epochs=100000", minutes=minutes) for name, minutes in (("a", 3), ("b", 2), ("c", 1))]

    def stop() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not all((tmp_path / each / "metrics.jsonl").exists() for each in "ab"):
            time.sleep(0.05)
        runner.processes.stop(signal.SIGINT)

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert not runner.train(endless)
    stopper.join()
    for name in "ab":
        assert "go on with --resume" in (tmp_path / f"{name}.log").read_text()
        assert (tmp_path / name / "latest" / checkpoint.STATE).is_file()
    assert not (tmp_path / "c").exists()


def test_no_seed_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--seeds", "0"])
    assert "--seeds: expected 1 or more, got 0" in capsys.readouterr().err


def test_seeds_have_folders_of_their_own_and_the_page_their_spread(vae_run: Path, tmp_path: Path) -> None:
    specs = runs.with_seeds([RunSpec("vae", "vae")], 3)
    assert [each.folder for each in specs] == ["vae", "vae-seed-1", "vae-seed-2"]
    assert [runs.run_name(each.folder) for each in specs] == ["vae"] * 3
    assert specs[2].config.run.seed == 2
    for seed, loss in enumerate((101.0, 101.4, 100.6)):
        folder = tmp_path / "runs" / specs[seed].folder
        shutil.copytree(vae_run, folder)
        path = folder / "best" / checkpoint.META
        meta = json.loads(path.read_text())
        meta["metrics"]["elbo_loss"], meta["config"]["run"]["seed"] = loss, seed
        path.write_text(json.dumps(meta))
        records.write(folder, "python -m training vae", Cost(1))
    results_page.publish(tmp_path / "runs", tmp_path / "docs" / "results.md", tmp_path / "docs" / "results")
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "| `vae` | elbo_loss | **101.0 ± 0.4 (n = 3)** | 100.6 | 101.4 | ≤ 101.5 |" in page
    assert page.count("| `vae` | elbo_loss 10") == 3


def test_a_new_run_is_checked_against_the_seeds_that_are_published(
    vae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = vae_run / "best" / checkpoint.META
    reached = json.loads(path.read_text())["metrics"]["elbo_loss"]
    shutil.copytree(vae_run, tmp_path / "new" / "vae")
    records.write(tmp_path / "new" / "vae", "python -m training vae", Cost(1))
    record = json.loads((tmp_path / "new" / "vae" / records.RECORD).read_text())
    assert check(tmp_path / "new", tmp_path / "published")
    assert "vae: not judged, as fewer than three seeds are published" in capsys.readouterr().out
    assert not check(tmp_path / "empty", tmp_path / "published")
    assert "expected finished runs" in capsys.readouterr().out
    (tmp_path / "published").mkdir()
    for other, holds in ((reached, True), (reached + 9, False)):
        for seed, name in enumerate(("vae", "vae-seed-1", "vae-seed-2")):
            metrics = {**record["metrics"], "elbo_loss": other + 0.1 * seed}
            (tmp_path / "published" / f"{name}.json").write_text(
                json.dumps({**record, "seed": seed, "metrics": metrics})
            )
        assert check(tmp_path / "new", tmp_path / "published") == holds
    told = capsys.readouterr().out
    assert "vae: elbo_loss as published" in told
    assert "vae: elbo_loss: expected " in told
    # A figure that the new run lacks is not "as published".
    del record["metrics"]["elbo_loss"]
    (tmp_path / "new" / "vae" / records.RECORD).write_text(json.dumps(record))
    assert check(tmp_path / "new", tmp_path / "published")
    assert "not judged" in capsys.readouterr().out
