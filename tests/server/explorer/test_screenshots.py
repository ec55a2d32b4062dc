"""Screenshots of the page compared with committed ones: a part that is missing shows, edges of letters do not.

    UPDATE_SCREENSHOTS=1 python -m pytest -n 0 tests/server/explorer/test_screenshots.py

writes them; look at them before they are committed.
"""

import io
import os
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.server.explorer.conftest import Open, address, choose, draw, pixels_of, section, until, wait_for_picture
from tests.server.explorer.test_sizes import choose_file, photograph, png
from tests.server.rest.conftest import Rest

FOLDER = Path(__file__).parent / "screenshots"
# A cell is the mean grey of so many pixels a side, a block so many cells.
CELL, BLOCK = 4, 16
# Other versions of Chromium may draw letters and controls elsewhere by so many cells.
MOST_DOWN, MOST_ACROSS = 5, 2
MOST_HEIGHT = 0.05
# Correlation of a block with the best place near it. With other STYLES it was 0.58 and above; where a part was hidden,
# eight blocks or more were below 0.5.
LEAST_CORRELATION, MOST_BLOCKS = 0.5, 2
LEAST_CONTRAST = 5.0
FONT = ":root { font: 400 16px / 1.45 'DejaVu Sans', sans-serif !important; }"


def cells(screenshot: bytes) -> np.ndarray:
    """(H, W) of a screenshot."""
    return np.asarray(Image.open(io.BytesIO(screenshot)).convert("L").reduce(CELL))


def lost_blocks(one: np.ndarray, other: np.ndarray) -> int:
    """Blocks of either picture with something in them that is not near the same place in the other."""
    if one.shape[1] != other.shape[1] or abs(len(one) - len(other)) > MOST_HEIGHT * len(one):
        return max(one.size, other.size)
    height = min(len(one), len(other))
    pair = one[:height].astype(np.float64), other[:height].astype(np.float64)
    return sum(
        lost_within(*each, *begin) for each in (pair, pair[::-1]) for begin in product((0, BLOCK // 2), repeat=2)
    )


def lost_within(one: np.ndarray, other: np.ndarray, top: int, left: int) -> int:
    """Blocks of the first, side by side from a cell on, that the second has nowhere near."""
    rows, columns = (one.shape[0] - top) // BLOCK, (one.shape[1] - left) // BLOCK

    def blocks(picture: np.ndarray) -> np.ndarray:
        """(rows, columns, BLOCK * BLOCK) without their means."""
        part = picture[top : top + rows * BLOCK, left : left + columns * BLOCK]
        flat = part.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(rows, columns, -1)
        return flat - flat.mean(-1, keepdims=True)

    expected, best = blocks(one), np.full((rows, columns), -1.0)
    for down, across in product(range(-MOST_DOWN, MOST_DOWN + 1), range(-MOST_ACROSS, MOST_ACROSS + 1)):
        found = blocks(np.roll(other, (down, across), (0, 1)))
        norms = (expected**2).mean(-1) * (found**2).mean(-1)
        best = np.maximum(best, (expected * found).mean(-1) / np.sqrt(norms + 1))
    return int(((best < LEAST_CORRELATION) & (expected.std(-1) >= LEAST_CONTRAST)).sum())


def screenshot(page: Page, title: str, styles: str = "") -> np.ndarray:
    """Of the part of the page under a heading, with other styles."""
    page.evaluate(
        """font => {
            const sheet = new CSSStyleSheet();
            sheet.replaceSync(font);
            document.adoptedStyleSheets = [sheet];
            document.activeElement?.blur();
        }""",
        FONT + styles,
    )
    page.mouse.move(0, 0)
    return cells(section(page, title).screenshot())


def check(page: Page, title: str, name: str) -> None:
    """Compare a part of the page with its committed screenshot."""
    path = FOLDER / f"{name}.png"
    taken = screenshot(page, title)
    if os.environ.get("UPDATE_SCREENSHOTS"):
        Image.fromarray(taken).save(path, optimize=True)
    lost = lost_blocks(np.asarray(Image.open(path)), taken)
    assert lost <= MOST_BLOCKS, f"{lost} blocks of {name}.png are not where they were"


def prepared(open_page: Open, rest: Rest, model: str, scheme: str, width: int) -> Page:
    page = open_page(address(rest), viewport={"width": width, "height": 900}, color_scheme=scheme)
    choose(page, model)
    return page


def test_each_view_looks_as_it_did(rest: Rest, open_page: Open) -> None:
    page = prepared(open_page, rest, "vae", "light", 1000)
    wait_for_picture(page, "Decoded picture")
    check(page, "Latent space", "latent-space")
    check(page, "vae, version 1", "model")
    grid = section(page, "Grid of decoded codes")
    grid.get_by_label("Pictures a side").select_option("5")
    grid.get_by_role("button", name="Decode the grid").click()
    wait_for_picture(page, "5 \u00d7 5 decoded codes")
    check(page, "Grid of decoded codes", "grid")
    sample = section(page, "Sample")
    sample.get_by_label("Seed").fill("7")
    sample.get_by_role("button", name="The same again").click()
    wait_for_picture(page, "Sample 16")
    check(page, "Sample", "sample")
    walk = section(page, "Walk between two pictures")
    walk.get_by_role("group", name="Start").get_by_role("button", name="the place on the map").click()
    page.get_by_role("application", name="Map of the latent space").press("Shift+ArrowRight")
    walk.get_by_role("group", name="End").get_by_role("button", name="the place on the map").click()
    walk.get_by_role("button", name="Walk").click()
    wait_for_picture(page, "The whole walk")
    check(page, "Walk between two pictures", "walk")


def test_a_phone_in_the_dark_looks_as_it_did(rest: Rest, open_page: Open) -> None:
    page = prepared(open_page, rest, "vae", "dark", 360)
    wait_for_picture(page, "Decoded picture")
    check(page, "Latent space", "phone-dark")


def test_a_picture_of_ones_own_looks_as_it_did(rest: Rest, open_page: Open) -> None:
    page = prepared(open_page, rest, "multitask", "dark", 1000)
    draw(page)
    wait_for_picture(page, "Reconstruction")
    own = section(page, "A picture of your own")
    expect(own.get_by_role("meter")).to_have_count(3)
    expect(own).to_contain_text("Squared error")
    settled(page, "Error map")
    check(page, "A picture of your own", "picture-dark")


def test_detection_in_a_photograph_looks_as_it_did(rest: Rest, open_page: Open) -> None:
    page = prepared(open_page, rest, "free-detector", "light", 1000)
    choose_file(page, png(photograph()))
    section(page, "A picture of your own").get_by_label("Threshold of the map").fill("0.8")
    expect(page.locator(".marked rect")).to_have_count(1)
    wait_for_picture(page, "Anomaly map")
    check(page, "A picture of your own", "detection")


def settled(page: Page, name: str) -> None:
    """Wait until a picture stays: the answers to a drawing come one after the other."""
    last = [pixels_of(page, name)]

    def same() -> bool:
        page.wait_for_timeout(200)
        before, last[0] = last[0], pixels_of(page, name)
        return before == last[0]

    until(page, same)


PARTS = (
    "canvas.map",
    ".legend",
    ".explore figure.large",
    ".sliders",
    "section .about",
    "section .place",
)
STYLES = (
    "section { letter-spacing: 0.1px; }",
    ":root { font-size: 16.1px !important; }",
    "input[type=range] { min-height: 1.8em; }",
)


def test_the_comparison_sees_what_is_gone_and_no_small_change_of_style(rest: Rest, open_page: Open) -> None:
    page = prepared(open_page, rest, "vae", "light", 1000)
    wait_for_picture(page, "Decoded picture")
    whole = screenshot(page, "Latent space")
    for style in STYLES:
        assert lost_blocks(whole, screenshot(page, "Latent space", style)) <= MOST_BLOCKS, style
    for part in PARTS:
        hidden = screenshot(page, "Latent space", f"{part} {{ visibility: hidden; }}")
        assert lost_blocks(whole, hidden) > MOST_BLOCKS, part
    assert lost_blocks(whole, screenshot(page, "Latent space", ".legend { display: none; }")) > MOST_BLOCKS
