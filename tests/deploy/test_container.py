"""The container image: built of the Dockerfile without a container engine, and run as a hardened one runs it.

buildah builds it without a daemon and without cgroups (--isolation chroot). The base image is made by mmdebstrap from
the machine's own Debian sources and has the tag that the Dockerfile names: no registry of images is needed.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hourglass_client import Client

from tests.deploy.conftest import DEPLOY, GOLDEN, ROOT, component
from tests.deploy.test_image import LINE
from tests.server.conftest import graph_run, pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_LOGGER = logging.getLogger(__name__)
MIB = 2**20
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
# How this machine reaches package registries: the build must reach them likewise.
CONFIGURATION = [path for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
# As the kernel and a container runtime arrange it for `read_only: true`: the root, a folder for sockets, the models.
HARDENED = """
set -e
mkdir -p "$1/models"
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
mount -t proc proc "$1/proc" && mount -t tmpfs tmpfs "$1/tmp" && mount --rbind /dev "$1/dev"
mount --bind "$2" "$1/models" && mount -o remount,bind,ro "$1/models"
user="$3"; root="$1"; shift 3
exec chroot --userspec="$user" "$root" env -i "$@"
"""


class Builder:
    """buildah with storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._command = [component("buildah"), "--storage-driver", "vfs"]
        self._command += ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout.strip()


def write_base(builder: Builder, folder: Path) -> None:
    """The base image that the Dockerfile names, of Debian's own Python."""
    archive = folder / "base.tar"
    packages = "python3,python-is-python3,python3-pip,ca-certificates"
    command = [component("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={packages}"]
    # Nothing here must survive a loss of power.
    command += ["--dpkgopt=force-unsafe-io", "bookworm", str(archive)]
    subprocess.run([*command, *(str(path) for path in SOURCES if path.exists())], check=True)
    (base,) = set(re.findall(r"^FROM (\S+:\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))
    container = builder("from", "scratch")
    builder("add", container, str(archive), "/")
    builder("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
    builder("commit", "--quiet", "--rm", container, f"docker.io/library/{base}")
    archive.unlink()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict]]:
    """Root folder of a container of the built image, and the image's configuration."""
    if os.geteuid() != 0:
        pytest.skip("mmdebstrap, mount and chroot are run as root here")
    folder = tmp_path_factory.mktemp("image")
    builder = Builder(folder)
    try:
        write_base(builder, folder)
        volumes = [option for path in CONFIGURATION for option in ("--volume", f"{path}:{path}:ro")]
        isolation = ("--isolation", "chroot", "--network", "host", "--pull-never")
        dockerfile = ("--file", "deploy/Dockerfile", "--target", "cpu", "--tag", "hourglass:cpu", ".")
        builder("bud", *isolation, *volumes, *dockerfile)
        name = builder("from", "--pull-never", "hourglass:cpu")
        described = json.loads(builder("inspect", "--type", "image", "hourglass:cpu"))
        yield Path(builder("mount", name)), described["OCIv1"]["config"]
    finally:
        shutil.rmtree(folder)


def size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def test_runs_read_only_as_another_user_and_stops_in_order(container: tuple[Path, dict]) -> None:
    root, configuration = container
    sizes = {name: size(root / name) / MIB for name in ("app", "packages")}
    _LOGGER.info("image: %s MiB", ", ".join(f"{name} {mib:.1f}" for name, mib in sizes.items()))
    assert sum(sizes.values()) <= 250
    settings = ["HOURGLASS_PORT=0", "HOURGLASS_METRICS_PORT=0"]
    start = [*configuration["Env"], *settings, *configuration["Entrypoint"]]
    command = ["unshare", "--mount", "sh", "-c", HARDENED, "sh", str(root), str(GOLDEN), configuration["User"], *start]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = LINE.fullmatch(process.stdout.readline())
            assert line
            seen = Path(f"/proc/{process.pid}")
            user, _ = configuration["User"].split(":")
            status = dict(each.split(":\t", 1) for each in (seen / "status").read_text().splitlines() if ":\t" in each)
            assert status["Uid"].split() == [user] * 4
            assert int(status["CapEff"], 16) == 0
            mounted = [each.split() for each in (seen / "mountinfo").read_text().splitlines()]
            assert [each[5].split(",")[0] for each in mounted if each[4] in {"/", "/models"}] == ["ro", "ro"]
            batch = pixels(3)
            with Client(f"127.0.0.1:{line[1].rpartition(':')[2]}") as client:
                encoded = client.encode(batch, model="vae")
            np.testing.assert_allclose(encoded.latents, graph_run("encode", "vae", batch)[0], atol=1e-5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
