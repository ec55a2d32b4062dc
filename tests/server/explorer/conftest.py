"""The page in a real browser: Debian's Chromium, driven by playwright."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, sync_playwright

from tests.server.explorer.models import write_models
from tests.server.rest.conftest import Rest, serving_rest

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; without Chromium its tests are skipped, which TEST_REQUIRE_ALL=1 forbids.

    One for each file: as long as playwright runs, no other loop of asyncio runs on its thread.
    """
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is absent: apt-get install chromium fonts-dejavu-core")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a model of every kind."""
    repository = tmp_path_factory.mktemp("explorer") / "models"
    repository.mkdir()
    write_models(repository)
    return repository


@pytest.fixture(scope="package")
def rest(models: Path) -> Iterator[Rest]:
    with serving_rest(models, versions="all") as started:
        yield started


@dataclass
class Complaints:
    """What the browser's console said."""

    texts: list[str] = field(default_factory=list[str])

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.texts.append(str(error)))
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.texts.append(message.text)

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.texts.append(f"{response.status} {response.url}")


@pytest.fixture
def complaints() -> Complaints:
    """Empty unless a test expects some, and clears them."""
    return Complaints()


@pytest.fixture
def open_page(browser: Browser, complaints: Complaints) -> Iterator[Open]:
    """Open a page in a context of its own; the browser's console must stay empty."""
    with _opened(browser, complaints) as made:
        yield made
    assert complaints.texts == []


@contextmanager
def _opened(browser: Browser, complaints: Complaints) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def make(url: str, **options: object) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        complaints.watch(page)
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()


def address(rest: Rest) -> str:
    return f"http://{rest.address}/explorer/"


def choose(page: Page, model: str) -> None:
    """Choose a model, and wait for its page."""
    page.get_by_label("Model", exact=True).select_option(model)
    page.get_by_role("heading", name=f"{model}, version").wait_for()
    page.locator("canvas.map, main > .wide").first.wait_for()


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for something that no locator tells, for half a minute at most."""
    for _ in range(1500):
        if holds():
            return
        page.wait_for_timeout(20)
    pytest.fail("it never came true")


def pixels_of(page: Page, name: str) -> list[int]:
    """RGBA of the canvas of a picture."""
    script = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    return page.get_by_role("img", name=name, exact=True).evaluate(script)


def wait_for_picture(page: Page, name: str) -> list[int]:
    page.get_by_role("img", name=name, exact=True).wait_for()
    return pixels_of(page, name)


def wait_for_change(page: Page, name: str, before: list[int]) -> list[int]:
    until(page, lambda: pixels_of(page, name) != before)
    return pixels_of(page, name)


def draw(page: Page) -> None:
    """A stroke on the pad."""
    pad = page.get_by_role("application", name="Pad to draw on")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    page.mouse.up()


def grey(rgba: list[int]) -> np.ndarray:
    """RGBA of a canvas to its first channel."""
    return np.array(rgba, np.uint8).reshape(-1, 4)[:, 0]


def section(page: Page, title: str) -> Locator:
    """The part of the page under a heading."""
    return page.locator("section", has=page.get_by_role("heading", name=title, exact=True))


def place(page: Page, pattern: str = r"component 1 (\S+), component 2 ([^,\s]+)") -> tuple[float, float]:
    """Where the cross is on the map."""
    found = re.search(pattern, section(page, "Latent space").locator(".place").inner_text())
    assert found is not None
    return float(found[1]), float(found[2])
