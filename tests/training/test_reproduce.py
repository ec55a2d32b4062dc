import shutil
from pathlib import Path

from training import reproduce


def test_the_page_says_what_ran_and_what_did_not(vae_run: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(vae_run, runs / "vae")
    reproduce.write_record(runs / "vae", "python -m training vae", 90)
    reproduce.publish(runs, tmp_path / "docs" / "results.md", tmp_path / "docs" / "results")
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "| `vae` | elbo_loss |" in page
    assert "(missed)" in page
    assert "| `conv-ae` | bce_per_pixel | not yet run |" in page
    assert "1.5 min" in page
    assert (tmp_path / "docs" / "results" / "vae-samples.png").is_file()
    assert "(results/vae-samples.png)" in page


def test_without_runs_nothing_is_claimed(tmp_path: Path) -> None:
    reproduce.publish(tmp_path, tmp_path / "results.md", tmp_path / "pictures")
    page = (tmp_path / "results.md").read_text()
    assert "**" not in page
    assert page.count("not yet run") >= 11
