"""docs/your-own-network.md, followed to the letter: files written, commands run, a server called."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import export.__main__
from examples.local_server import running
from export.modules.adapter import AdaptedModule
from export.modules.probe import probe

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-network.md").read_text()
FILES = {name: text for text, name in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", PAGE, re.DOTALL)}
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.slow
def test_the_page_leads_from_a_class_to_a_served_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    fit, exported, serve, call = map(shlex.split, COMMANDS)
    subprocess.run([sys.executable, *fit[1:]], check=True)
    assert export.__main__.main(exported[3:]) == 0
    repository = Path(serve[serve.index("--repository") + 1])
    with running(repository, tmp_path / "server.log") as server:
        program = Path(call[1])
        program.write_text(program.read_text().replace("127.0.0.1:8001", server.address))
        done = subprocess.run([sys.executable, *call[1:]], check=True, capture_output=True, text=True)
    error = re.fullmatch(r"latents \(4, 8\), squared error (0\.\d+) per pixel\n", done.stdout)
    assert error is not None
    # The mean image alone has 0.07.
    assert float(error[1]) < 0.04


def test_its_python_call_is_as_written() -> None:
    names = {}
    exec("from export.modules import Declaration, export_module\nfrom export.publication.publish import Place", names)  # noqa: S102 (two lines of the page)
    assert all(name in PAGE for name in names if name.isidentifier() and name != "__builtins__")


def test_its_detector_is_one_that_can_be_exported() -> None:
    names: dict[str, type[AdaptedModule]] = {}
    (detector,) = re.findall(r"```python\n(class Detector.*?)```", PAGE, re.DOTALL)
    exec(FILES["mine.py"] + detector, names)  # noqa: S102 (two parts of the page)
    model = AdaptedModule(names["Detector"](), ("encode", "decode", "reconstruct", "detect")).eval()
    model.image_shape = (8, 8, 1)
    assert probe(model, torch.rand(3, 1, 8, 8)) is None
