"""Misuse of the command line: one sentence, the exit code, no traceback; in a process of its own as users run it."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hourglass_client.cli.main import main
from PIL import Image

from tests.server.conftest import Served, serving


def started(*arguments: object, **more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hourglass_client.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """The one line that a command ends with."""
    assert main([*map(str, arguments)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_interrupted_while_it_waits_for_an_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with started("models", "--address", address) as process, listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")


def test_output_that_nobody_reads(server: Served) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "hourglass_client.cli", "models", "--address", server.address]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_output_in_another_encoding(server: Served, pictures: Path) -> None:
    (pictures / "a.png").rename(os.fsdecode(os.fsencode(pictures) + b"/r\xfcnd.png"))
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    with started("encode", pictures, "--model", "vae", "--address", server.address, env=environment) as process:
        output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "r\\udcfcnd" in output


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["models", "--address", ""], "got an empty string"),
        (["models", "--address", "127.0.0.1:99999"], "expected a port up to 65535"),
        (["models", "--ca", __file__], "expected certificates in PEM form"),
        (["sample", "--count", str(10**9), "--out", "out"], "--count: expected at most 100000 images"),
        (
            ["sample", "--model", "a\udcff", "--out", "out"],
            r"expected names of models and attributes in UTF-8, got 'a\udcff'",
        ),
        (["encode", "huge.npy"], "huge.npy: expected a .npy array"),
    ],
)
def test_values_that_cannot_be_meant(
    wrong: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + "\n"
    Path("huge.npy").write_bytes(b"\x93NUMPY\x01\0v\0" + header.encode())
    assert words in refused(capsys, *wrong)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"secret token\n", "token: expected visible ASCII"),
        ("s\u00e9cret".encode(), "token: expected visible ASCII"),
        ("secret".encode("utf-16"), "expected UTF-8 text"),
        (b"\r\n", "token: expected a token"),
    ],
)
def test_token_file_that_holds_no_token(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_bytes(content)
    line = refused(capsys, "models", "--token-file", tmp_path / "token")
    assert words in line
    assert "cret" not in line


def test_token_file_of_any_editor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens").write_text("inference 0123456789abcdef\n")
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf0123456789abcdef \r\n")
    with serving(Path("tests/golden"), token_file=tmp_path / "tokens", poll_seconds=0) as served:
        assert main(["models", "--address", served.address, "--token-file", str(tmp_path / "token")]) == 0
    assert "vae" in capsys.readouterr().out


def test_server_without_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, poll_seconds=0) as served:
        line = refused(capsys, "models", "--address", served.address, code=1)
    assert "No model is loaded" in line


def test_output_that_cannot_be_written(server: Served, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called = ("--model", "denoiser", "--address", server.address)
    file = pictures / "notes.txt"
    assert "not a directory" in refused(capsys, "denoise", pictures, *called, "--out", file / "out")
    assert "too long" in refused(capsys, "denoise", pictures, *called, "--out", pictures / ("x" * 300))
    (pictures / "z.npy").touch()
    vae = ("--model", "vae", "--address", server.address)
    assert "already exists" in refused(capsys, "encode", pictures / "a.png", *vae, "--out", pictures / "z.npy")


def test_files_that_cannot_be_read_or_written(server: Served, pictures: Path, capsys: pytest.CaptureFixture) -> None:
    """Not by permissions, which root has."""
    called = ("--model", "denoiser", "--address", server.address)
    out = ("--out", pictures / "out")
    assert "mem: Input/output error" in refused(capsys, "denoise", "/proc/self/mem", *called, *out)
    assert "too long" in refused(capsys, "denoise", pictures / f"{'x' * 300}.png", *called, *out)
    assert "/proc/out" in refused(capsys, "denoise", pictures / "a.png", *called, "--out", "/proc/out")


def test_resize_says_that_it_does_not_scale_back(
    server: Served, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (20, 10)).save(pictures / "large.png")
    command = ["denoise", pictures / "large.png", "--model", "denoiser", "--resize", "--out", pictures / "out"]
    line = refused(capsys, *command, "--address", server.address, code=0)
    words = "large.png: resized from 10 x 20 to 8 x 8 (height x width); the file itself is unchanged"
    assert line == f"hourglass: note: {pictures}/{words}"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["models", "--timeout", "nan"], "expected seconds above 0, got 'nan'"),
        (["models", "--timeout", "-1"], "expected seconds above 0"),
        (["bench", "--seconds", "soon"], "expected seconds above 0, got 'soon'"),
        (["bench", "--callers", "0"], "expected a whole number from 1, got '0'"),
        (["edit", "a.png", "--shift", "slant", "--out", "x"], "expected NAME=AMOUNT"),
    ],
)
def test_values_of_flags(wrong: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_any_default_address_can_be_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOURGLASS_ADDRESS", "[fe80::1%eth0]:8001")
    with pytest.raises(SystemExit) as ended:
        main(["models", "--help"])
    assert ended.value.code == 0
    assert "fe80::1%eth0" in capsys.readouterr().out
