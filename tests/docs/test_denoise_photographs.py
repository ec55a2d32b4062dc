"""docs/denoise-photographs.md, followed to the letter but for the minutes: commands run, a server called."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from hourglass_client.cli.main import main as hourglass
from PIL import Image
from skimage import data

import export.__main__
import training.__main__
from examples.local_server import running

PAGE = (Path(__file__).parents[2] / "docs" / "denoise-photographs.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SMALLER = ["--set", "model.channels=[8]", "--set", "model.blocks=1", "--set", "device.threads=1"]


def photographs(folder: Path, seed: int) -> None:
    """Parts of a colour photograph below `clean`, with noise below `noisy`."""
    whole, draws = data.astronaut(), np.random.default_rng(seed)
    for name in ("clean", "noisy"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        part = whole[100 * number : 100 * number + 150, 100:360]
        noisy = part + draws.normal(0, 25, part.shape)
        Image.fromarray(part).save(folder / "clean" / f"{number}.png")
        Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8)).save(folder / "noisy" / f"{number}.png")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_leads_from_photographs_to_a_served_denoiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("pairs", 0), ("held-out", 1)):
        photographs(Path(name), seed)
    for name in ("photos", "others"):
        Path(name).symlink_to(tmp_path / "pairs" / "clean")
    Path("noisy.png").write_bytes(Path("pairs/noisy/0.png").read_bytes())
    train, evaluate, exported, serve, denoise, blind, camera, judge = map(shlex.split, COMMANDS)
    for command in (train, blind, camera):
        minutes = command.index("--minutes") + 1
        assert training.__main__.main([*command[3:minutes], "0.05", *command[minutes + 1 :], *SMALLER]) == 0
    capsys.readouterr()
    for command, lines in ((evaluate, 3), (judge, 1)):
        assert training.__main__.main(command[3:]) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines
    assert export.__main__.main(exported[3:]) == 0
    with running(Path(serve[serve.index("--repository") + 1]), tmp_path / "server.log") as server:
        assert hourglass([*denoise[1:], "--address", server.address]) == 0
    assert {path.name for path in Path("denoised").iterdir()} == {"noisy.png", "noisy-compare.png"}
