import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import bundles
import keys
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from bundle.golden import Case, Golden
from export.__main__ import main
from export.gate import session
from export.inspection.verify import verify
from export.publication.signing import signer

ROOT = Path(__file__).resolve().parents[3]
BLOCKED = ("torch", "onnx", "onnxscript", "sklearn", "matplotlib", "training")


@pytest.mark.parametrize("name", ["fc-ae", "vae", "denoiser", "multitask"])
def test_the_committed_bundles_pass(name: str) -> None:
    findings = verify(bundles.GOLDEN / name / "1")
    assert [each for each in findings if not each.passed] == []
    assert {each.check for each in findings} == {
        "hashes",
        "description",
        "structure",
        "golden vectors",
        "batch invariance",
    }
    assert ("golden vectors", "sample") in {(each.check, each.subject) for each in findings} or name == "denoiser"


def test_tiles_are_compared_with_the_whole(free_version: Path) -> None:
    findings = verify(free_version)
    assert [each for each in findings if not each.passed] == []
    assert "tiles against the whole image: the same bits" in {str(each) for each in findings if each.check == "tiles"}
    bundles.change_model(free_version, lambda model: setattr(model.signatures[0].tiling, "halo", 8))
    (failed,) = [each for each in verify(free_version) if not each.passed]
    assert (failed.check, failed.subject) == ("tiles", "denoise")
    assert "off by" in failed.seen


def test_it_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    for package in BLOCKED:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ImportError('{package} is not installed here')")
    # Ahead of everything else, in this process and in those that it starts.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "proto")])}
    program = f"import {BLOCKED[0]}"
    assert subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False).returncode
    command = [sys.executable, "-W", "error", "-m", "export", "verify", str(bundles.GOLDEN / "vae/1")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ok ") == 12
    assert done.stderr == ""


def test_a_command_without_its_packages_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/__init__.py").write_text("raise ModuleNotFoundError('no onnx', name='onnx')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "proto")])}
    bundle = str(bundles.GOLDEN / "vae/1")
    for arguments in (["diff", bundle, bundle], ["import", "x", "--repository", "y", "--name", "z"]):
        command = [sys.executable, "-m", "export", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "export: this needs onnx: pip install '.[export]' in a checkout\n"


def add_dropout(model: ModelProto) -> None:
    last = model.graph.node[-1]
    output = last.output[0]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Dropout", ["before"], [output]))


def depend_on_batch(model: ModelProto) -> None:
    """Adds 1e-7 of the batch's maximum: far within the tolerance, but other bits."""
    last = model.graph.node[-1]
    output = last.output[0]
    last.output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first_axis"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e-7), "little"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["before", "first_axis"], ["largest"]),
            helper.make_node("Mul", ["largest", "little"], ["small"]),
            helper.make_node("Add", ["before", "small"], [output]),
        ]
    )


def other_sample(golden: Golden) -> Golden:
    assert golden.sample_case is not None
    latents = np.nextafter(golden.sample_case.latents, np.float32(np.inf))
    return dataclasses.replace(golden, sample_case=dataclasses.replace(golden.sample_case, latents=latents))


def other_images(golden: Golden) -> Golden:
    assert golden.sample_case is not None
    images = golden.sample_case.images + np.float32(1e-3)
    return dataclasses.replace(golden, sample_case=dataclasses.replace(golden.sample_case, images=images))


def no_outputs(golden: Golden) -> Golden:
    """Cases that compare nothing."""
    cases = tuple(Case(case.inputs, {}) for case in golden.cases["decode"])
    return dataclasses.replace(golden, cases={**golden.cases, "decode": cases})


def fail_at_work(model: ModelProto) -> None:
    """Wants seven rows of every batch."""
    last = model.graph.node[-1]
    output = last.output[0]
    last.output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, 8, 8, 1]), "seven_rows"))
    model.graph.node.append(helper.make_node("Reshape", ["before", "seven_rows"], [output]))


def no_cases(golden: Golden) -> Golden:
    return dataclasses.replace(golden, cases={name: cases for name, cases in golden.cases.items() if name != "decode"})


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a changed byte": (
        lambda folder: (folder / "decode.onnx").write_bytes((folder / "encode.onnx").read_bytes()),
        "hashes",
        "decode.onnx",
    ),
    "a lost file": (lambda folder: (folder / "golden.npz").unlink(), "hashes", "golden.npz"),
    "a forbidden operator": (
        lambda folder: bundles.change_graph(folder, "decode.onnx", add_dropout),
        "structure",
        "operator Dropout is not allowed",
    ),
    "no graph": (
        lambda folder: bundles.replace_file(folder, "decode.onnx", b"x"),
        "structure",
        "expected an ONNX file",
    ),
    "other weights": (
        lambda folder: bundles.change_graph(folder, "decode.onnx", bundles.scale_weight("model.decoder.bias", 1.01)),
        "golden vectors",
        "case 0, output images: off by",
    ),
    "another sample": (lambda folder: bundles.change_golden(folder, other_sample), "golden vectors", "other latents"),
    "other images of the sample": (
        lambda folder: bundles.change_golden(folder, other_images),
        "golden vectors",
        "case 2, output images: off by 0.001",
    ),
    "another number": (
        lambda folder: bundles.change_model(folder, lambda model: setattr(model, "version", "2")),
        "description",
        "expected the folder fc-ae/2, as model.json says, got fc-ae/1",
    ),
    "a batch without end": (
        lambda folder: bundles.change_model(folder, lambda model: model.signatures[0].batch_buckets.append(2**30)),
        "description",
        "expected batch buckets",
    ),
    "a graph that fails at work": (
        lambda folder: bundles.change_graph(folder, "decode.onnx", fail_at_work),
        "golden vectors",
        "onnxruntime fails in the graph",
    ),
    "vectors that compare nothing": (
        lambda folder: bundles.change_golden(folder, no_outputs),
        "golden vectors",
        "got none",
    ),
    "no vectors": (lambda folder: bundles.change_golden(folder, no_cases), "golden vectors", "got none"),
    "unreadable vectors": (
        lambda folder: bundles.replace_file(folder, "golden.npz", b"x"),
        "golden vectors",
        "expected an .npz file",
    ),
    "rows that see each other": (
        lambda folder: bundles.change_graph(folder, "decode.onnx", depend_on_batch),
        "batch invariance",
        "a row alone against the same row in a batch: off by",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_bundle_fails_the_check_for_that_damage(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply, check, text = DAMAGES[damage]
    folder = bundles.copied("fc-ae", tmp_path)
    apply(folder)
    assert main(["verify", str(folder)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert check in failed[0]
    assert text in failed[0]


def test_variation_passes_where_no_invariance_is_claimed(tmp_path: Path) -> None:
    folder = bundles.copied("fc-ae", tmp_path)
    bundles.change_graph(folder, "decode.onnx", depend_on_batch)
    bundles.change_model(folder, lambda model: setattr(model.signatures[0], "batch_invariant", False))
    findings = [each for each in verify(folder) if each.check == "batch invariance" and each.subject == "decode"]
    assert [each.passed for each in findings] == [True]
    assert "off by" in findings[0].seen


def test_a_signed_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = keys.write_pair(tmp_path / "ours")
    folder = bundles.copied("denoiser", tmp_path)
    assert main(["verify", str(folder), "--public-key", str(public)]) == 1
    assert "not signed" in capsys.readouterr().out
    signer(private)(folder)
    assert main(["verify", str(folder), "--public-key", str(public)]) == 0
    assert "signed by the given key" in capsys.readouterr().out
    _, other = keys.write_pair(tmp_path / "theirs")
    assert main(["verify", str(folder), "--public-key", str(other)]) == 1
    bundles.change_model(folder, lambda model: model.metrics.update({"psnr": 99.0}))
    assert main(["verify", str(folder), "--public-key", str(public)]) == 1
    assert "model.json is not the file that was signed" in capsys.readouterr().out


def test_cuda_is_cuda_or_a_failure_never_silently_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", str(bundles.GOLDEN / "denoiser/1"), "--device", "cuda"])
    text = capsys.readouterr().out
    if "CUDAExecutionProvider" not in session.onnxruntime.get_available_providers():
        assert code == 1
    assert code == 0 or "expected CUDA" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "expected a readable file"),
        ([str(bundles.GOLDEN / "vae")], "give the folder of one version"),
        ([str(bundles.GOLDEN / "vae/1"), "--public-key", "nowhere.pem"], "expected a public key"),
        ([str(bundles.GOLDEN / "vae/1"), "--public-key", str(bundles.GOLDEN / "make.py")], "expected a public key"),
    ],
)
def test_bad_input_is_exit_code_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *arguments]) == 2
    assert message in capsys.readouterr().err
