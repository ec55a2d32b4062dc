"""The file of a cluster is read strictly, and says in a sentence what is wrong."""

import dataclasses
from pathlib import Path

import pytest

from deploy.ray.settings import ClusterError, ClusterSettings, load, parse
from tests.deploy.conftest import DEPLOY


def test_the_file_that_comes_along_shows_the_defaults() -> None:
    defaults = ClusterSettings(server={"lame_duck_seconds": "3"})
    assert load(DEPLOY / "ray" / "cluster.toml") == defaults


def test_json_and_back() -> None:
    settings = ClusterSettings(server={"transport": "native"}).with_models("s3://bucket/models")
    assert parse(dataclasses.asdict(settings)) == settings
    assert settings.models.url == "s3://bucket/models"


def test_a_revision_is_what_replicas_run() -> None:
    settings = ClusterSettings()
    scaled = dataclasses.replace(settings, scaling=dataclasses.replace(settings.scaling, most=9))
    assert settings.revision == scaled.revision
    assert settings.revision != settings.with_models("/elsewhere").revision
    assert settings.revision != ClusterSettings(server={"max_batch_rows": "8"}).revision
    assert len({settings.with_contents(each).revision for each in ("", "a", "b")}) == 3
    ported = dataclasses.replace(settings, replicas=dataclasses.replace(settings.replicas, metrics_port=9))
    assert settings.revision != ported.revision


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[ray\n", "Expected ']'"),
        ("[rays]\n", "unknown table [rays]: expected ray, replicas, models, scaling, server"),
        ("ray = 1\n", "ray: expected a table, [ray]"),
        ("[ray]\nadress = ''\n", "[ray] adress: unknown key, expected one of address, namespace"),
        ("[ray]\nenvoys = 'x'\n", "[ray] envoys: expected a list of strings, got 'x'"),
        ("[replicas]\ncores = 'two'\n", "[replicas] cores: expected a finite number, got 'two'"),
        ("[replicas]\ncores = true\n", "[replicas] cores: expected a finite number, got True"),
        ("[replicas]\ninterval_seconds = nan\n", "[replicas] interval_seconds: expected a finite number, got nan"),
        ("[replicas]\ncores = 0\n", "[replicas] expected cores or gpus above 0: placement goes by them"),
        ("[replicas]\ncores = -1\n", "[replicas] cores, gpus: expected 0 or more"),
        ("[replicas]\nport = 70000\n", "[replicas] port, metrics_port: expected 0 to 65535"),
        ("[replicas]\nlost_seconds = 0.1\n", "[replicas] lost_seconds: expected at least interval_seconds, 0.5"),
        ("[replicas]\ninterval_seconds = 0\n", "[replicas] interval_seconds: expected more than 0"),
        ("[replicas]\nstart_seconds = 0\n", "[replicas] start_seconds: expected more than 0"),
        ("[models]\nurl = ''\n", "[models] url: expected a folder or a URL, got ''"),
        ("[scaling]\nleast = 0\n", "[scaling] least: expected 1 or more, got 0"),
        ("[scaling]\nleast = 2.5\n", "[scaling] least: expected a whole number, got 2.5"),
        ("[scaling]\nleast = 3\nmost = 2\n", "[scaling] most: expected at least `least`, 3, got 2"),
        ("[scaling]\nrows = 0\n", "[scaling] rows: expected more than 0"),
        ("[scaling]\nup_seconds = -1\n", "[scaling] up_seconds, down_seconds: expected 0 or more"),
        ("[server]\nlame_duck = 3\n", "[server] lame_duck: unknown key, docs/configuration.md lists"),
        ("[server]\nport = 3\n", "[server] port: set by the replica itself; see [models] and [replicas]"),
        ("[server]\nmax_batch_rows = 'x'\n", "[server] --max-batch-rows"),
    ],
)
def test_one_sentence_says_what_is_wrong(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ClusterError) as caught:
        load(file)
    assert f"{file}: {sentence}" in str(caught.value)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"none\.toml: No such file or directory"):
        load(tmp_path / "none.toml")
