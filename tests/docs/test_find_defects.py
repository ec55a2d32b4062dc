"""docs/find-defects.md, followed to the letter on a small folder: its commands run, its server is called."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import export.__main__
import training.__main__
from examples.local_server import running
from training.data.defects import textures
from training.data.defects.textures import Stream

PAGE = (Path(__file__).parents[2] / "docs" / "find-defects.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
PROGRAM = re.findall(r"```python\n(# inspect_parts.py\n.*?)```", PAGE, re.DOTALL)[0]
# Enough to see that the way leads to its end.
QUICK = ["--epochs", "2", "--set", "data.grey=true", "--set", "device.threads=1"]


def parts(place: Path) -> None:
    """Thirty normal pictures to train on, and a few for the test, in the page's folders."""
    for role, stream, count in (("train", Stream.TRAIN, 30), ("val", Stream.CALIBRATION, 20), ("test", Stream.TEST, 3)):
        folder = place / role / "good"
        folder.mkdir(parents=True)
        for number, image in enumerate(textures.normals("brick", stream, 0, count)):
            Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    truth, test = place / "ground_truth" / "dent", place / "test" / "dent"
    truth.mkdir(parents=True)
    test.mkdir()
    for number in range(3):
        found = textures.defective("brick", number)
        Image.fromarray(found.image[..., 0]).save(test / f"{number}.png")
        Image.fromarray(found.mask.astype(np.uint8) * 255).save(truth / f"{number}_mask.png")


@pytest.mark.slow
def test_the_page_leads_from_a_folder_to_a_server_that_finds_defects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts(Path("parts"))
    fit, exported, serve, detect, digits = map(shlex.split, COMMANDS)
    assert training.__main__.main([*fit[3:], *QUICK]) == 0
    assert Path("runs/parts/defects.png").is_file()
    assert export.__main__.main(exported[3:]) == 0
    repository = Path(serve[serve.index("--repository") + 1])
    with running(repository, tmp_path / "server.log") as server:
        command = [sys.executable, "-m", "hourglass_client.cli", *detect[1:], "--address", server.address]
        # 0 or 10: all are normal, or some are not.
        assert subprocess.run(command, check=False, capture_output=True).returncode in (0, 10)
        program = Path("inspect_parts.py")
        program.write_text(PROGRAM.replace("127.0.0.1:8001", server.address))
        done = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True)
    assert len(re.findall(r"^parts/test/\w+/\d.png (?:defective|normal) 0\.\d+ \[", done.stdout, re.MULTILINE)) == 6
    assert training.__main__.main([*digits[3:], "--epochs", "1"]) == 0


def test_every_setting_that_it_names_is_one() -> None:
    from training.config import Config  # noqa: PLC0415 (after the programs that it is a part of)

    named = re.findall(r"`(?:--set )?(model|data)\.(\w+)", PAGE)
    assert named
    for section, name in named:
        kind = Config.model_fields[section].annotation
        assert kind is not None
        assert name in kind.model_fields
