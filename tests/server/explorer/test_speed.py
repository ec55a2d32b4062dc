"""How fast the page is: the first picture, pictures that follow a drag, frames with 2,000 points on the map.

    python -m pytest -n 0 -m slow -o log_cli=true -o log_cli_level=INFO tests/server/explorer/test_speed.py

Figures of a machine, which docs/explorer.md states: nothing here depends on them.
"""

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle.density.latent_arrays import MAX_REFERENCE_POINTS
from tests.server.explorer.conftest import Open, wait_for_picture
from tests.server.explorer.models import add_points

_LOGGER = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 300
LATENT_SIZE, HIDDEN = 20, 400


@pytest.fixture(scope="module")
def page_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server, in a process of its own, of an untrained VAE of the recipe's size, with 2,000 reference points."""
    repository = tmp_path_factory.mktemp("speed")
    sys.path.insert(0, str(Path(__file__).parents[2] / "golden"))
    import make  # noqa: PLC0415 (a script, which loads PyTorch)

    network = make.networks.weighted(make.networks.VariationalAutoencoder((28, 28, 1), LATENT_SIZE, HIDDEN))
    checkpoint = make.untrained("vae", network)
    with make.Sandbox() as sandbox:
        draft, result = make.build_and_check(checkpoint, make.digest(network), "float32", "cpu", sandbox)
    done = make.write(draft, result, make.Place(repository, "vae", 1), 0.0)
    add_points(done.folder, MAX_REFERENCE_POINTS)
    ports = ("--port", "0", "--metrics-port", "0", "--rest-port", "0")
    command = [sys.executable, "-m", "server", "--repository", str(repository), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"rest=(\S+)", process.stdout.readline())
        assert found is not None
        yield f"http://{found[1]}/explorer/"
        process.terminate()


def test_first_picture_drag_and_frames(page_address: str, open_page: Open) -> None:
    page = open_page(page_address, viewport={"width": 1400, "height": 1000})
    wait_for_picture(page, "Decoded picture")
    first = page.evaluate("performance.getEntriesByName('drag-to-picture').map((m) => m.startTime + m.duration)[0]")
    box = page.locator("canvas.map").bounding_box()
    assert box is not None
    # Once the cursor has come there, everything is measured that follows.
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("""() => {
        performance.clearMeasures();
        globalThis.frames_ = [];
        const frame = (now) => { globalThis.frames_.push(now); requestAnimationFrame(frame); };
        requestAnimationFrame(frame);
    }""")
    turns = np.linspace(0, 6 * np.pi, STEPS)
    for x, y in zip(0.5 + 0.3 * np.cos(turns), 0.5 + 0.3 * np.sin(turns), strict=True):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.mouse.up()
    frames = np.diff(page.evaluate("globalThis.frames_"))
    durations = page.evaluate("performance.getEntriesByName('drag-to-picture').map((measure) => measure.duration)")
    _LOGGER.info("first picture %.0f ms after the page was asked for", first)
    _LOGGER.info(
        "%d pictures of a drag: from movement to picture p50 %.1f ms, p95 %.1f ms, longest %.1f ms",
        len(durations),
        *np.percentile(durations, [50, 95, 100]),
    )
    _LOGGER.info(
        "%d frames meanwhile: %.1f a second, p95 %.1f ms apart",
        len(frames),
        1000 / frames.mean(),
        *np.percentile(frames, [95]),
    )
    assert len(durations) > STEPS / 20
    assert len(frames) > STEPS / 20
