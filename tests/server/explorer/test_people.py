"""The page for people: accessibility, keyboard, themes, small screens, and servers that are empty, closed or gone."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.server.conftest import copy_version
from tests.server.explorer.conftest import (
    Complaints,
    Open,
    address,
    choose,
    draw,
    pixels_of,
    section,
    wait_for_change,
    wait_for_picture,
)
from tests.server.rest.conftest import Rest, serving_rest

AXE = Path(__file__).parents[3] / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
TOKEN = "an-inference-token-of-the-tests"  # noqa: S105 (of a server that lives for a test)


def violations(page: Page) -> list[str]:
    """What axe-core finds, of colours in the dark too; it runs beside the page's own scripts, as developer tools do."""
    if not AXE.exists():
        pytest.skip("axe-core is absent: make clients")
    session = page.context.new_cdp_session(page)
    session.send("Runtime.evaluate", {"expression": f"globalThis.axe || (() => {{ {AXE.read_text()} }})()"})
    found: list[str] = []
    for scheme, rules in (("dark", '{ runOnly: ["color-contrast"] }'), ("light", "{}")):
        page.emulate_media(color_scheme=scheme)
        script = f"axe.run({rules}).then((result) => JSON.stringify(result.violations))"
        answer = session.send("Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True})
        for each in json.loads(answer["result"]["value"]):
            found += [f"{scheme}: {each['id']}: {each['help']}: {node['html'][:200]}" for node in each["nodes"]]
    return found


def test_nothing_bars_anyone(rest: Rest, open_page: Open, complaints: Complaints) -> None:
    """Every view, with and without an answer and a problem in it, in light and dark."""
    page = open_page(address(rest), color_scheme="light")
    choose(page, "vae")
    wait_for_picture(page, "Decoded picture")
    assert violations(page) == []
    show_all(page)
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_label("Pictures", exact=True).fill("0")
    page.get_by_role("button", name="Draw new ones").click()
    expect(section(page, "Sample").get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="middle").click()
    assert violations(page) == []
    for model, shown in (
        ("multitask", "Reconstruction"),
        ("free-detector", "Anomaly map"),
        ("free-denoiser", "Denoised"),
    ):
        choose(page, model)
        draw(page)
        wait_for_picture(page, shown)
        assert violations(page) == [], model
    complaints.texts.clear()


def show_all(page: Page) -> None:
    """Have every view of an autoencoder show an answer."""
    draw(page)
    page.get_by_role("button", name="Decode the grid").click()
    page.get_by_role("button", name="Draw new ones").click()
    walk = section(page, "Walk between two pictures")
    for end in ("Start", "End"):
        walk.get_by_role("group", name=end).get_by_role("button", name="the place on the map").click()
    walk.get_by_role("button", name="Walk").click()
    for name in ("Reconstruction", "9 \u00d7 9 decoded codes", "Sample 16", "The whole walk"):
        wait_for_picture(page, name)


def test_an_empty_and_a_closed_server_bar_no_one(
    tmp_path: Path, models: Path, open_page: Open, complaints: Complaints
) -> None:
    (tmp_path / "models").mkdir()
    tokens = tmp_path / "tokens"
    tokens.write_text(f"inference {TOKEN}\n")
    with serving_rest(tmp_path / "models") as empty, serving_rest(models, token_file=tokens) as closed:
        page = open_page(address(empty))
        expect(page.get_by_text("This server has no model to show")).to_be_visible()
        assert violations(page) == []
        page.goto(address(closed))
        expect(page.get_by_label("Access token")).to_be_visible()
        assert violations(page) == []
        # It asks no longer when its server is gone.
        page.goto("about:blank")
    complaints.texts.clear()


def test_every_control_works_from_the_keyboard(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    before = wait_for_picture(page, "Decoded picture")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the model")).to_be_focused()
    page.keyboard.press("Enter")
    reached = tab_to(page, "Map of the latent space")
    for _ in range(10):
        page.keyboard.press("Shift+ArrowRight")
    moved = wait_for_change(page, "Decoded picture", before)
    reached += tab_to(page, "component 3")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    wait_for_change(page, "Decoded picture", moved)
    reached += tab_to(page, "Pad to draw on")
    page.keyboard.down("Space")
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    page.keyboard.up("Space")
    expect(page.get_by_text("a ring marks it on the map")).to_be_visible()
    assert max(pixels_of(page, "Your picture")[::4]) > 50
    reached += tab_to(page, "Steps")
    # Back to both ends.
    for _ in range(2):
        press(page, "Shift+Tab", "the place on the map")
        page.keyboard.press("Enter")
    press(page, "Tab", "Walk")
    page.keyboard.press("Enter")
    wait_for_picture(page, "The whole walk")
    press(page, "Tab", "Step")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(section(page, "Walk between two pictures")).to_contain_text("4 of 11")
    reached += tab_to(page, "Copy curl")
    assert {"left", "Back to the mean", "Decode the grid", "Draw new ones", "your picture"} <= set(reached)


def test_the_grid_is_walked_by_arrow_keys(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    grid = section(page, "Grid of decoded codes")
    grid.get_by_role("button", name="Decode the grid").focus()
    page.keyboard.press("Enter")
    wait_for_picture(page, "9 \u00d7 9 decoded codes")
    page.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", *["ArrowRight"] * 9):
        page.keyboard.press(key)
    sliders = section(page, "Latent space")
    expect(sliders.get_by_label("component 1", exact=True)).to_have_js_property("valueAsNumber", 2)
    expect(sliders.get_by_label("component 2", exact=True)).to_have_js_property("valueAsNumber", 1)


def press(page: Page, key: str, name: str) -> None:
    """Press a key until a control of exactly this name has the focus."""
    assert any(tab_to(page, "", key) == [name] for _ in range(120)), name


def tab_to(page: Page, name: str, key: str = "Tab") -> list[str]:
    """Press Tab until a control of this name has the focus; returns the names on the way."""
    script = """() => {
        const at = document.activeElement;
        return at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent;
    }"""
    passed: list[str] = []
    for _ in range(120):
        page.keyboard.press(key)
        passed.append(page.evaluate(script).strip())
        if passed[-1].startswith(name):
            return passed
    pytest.fail(f"no Tab led to {name!r}, but to {passed}")


def test_dark_follows_the_system_at_once(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest), color_scheme="light")
    choose(page, "vae")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) != light


def test_a_phone_shows_all_of_it_without_scrolling_sideways(rest: Rest, open_page: Open) -> None:
    page = open_page(address(rest), viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for model in ("vae", "detector"):
        choose(page, model)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("Choose a file, or drop one on the page").scroll_into_view_if_needed()


def test_the_page_works_under_a_prefix(rest: Rest, open_page: Open, complaints: Complaints) -> None:
    """As behind a proxy that strips /models/hourglass."""
    page = open_page("about:blank")
    prefix = "http://hourglass.test/models/hourglass/"

    def forward(route) -> None:  # noqa: ANN001 (playwright's)
        request = route.request
        assert request.url.startswith(prefix)
        url = f"http://{rest.address}/{request.url.removeprefix(prefix)}"
        route.fulfill(response=route.fetch(url=url, max_redirects=0))

    page.context.route("http://hourglass.test/**", forward)
    page.goto(f"{prefix}explorer/")
    choose(page, "vae")
    wait_for_picture(page, "Decoded picture")
    assert complaints.texts == []


def test_no_script_within_the_page_runs(rest: Rest, open_page: Open, complaints: Complaints) -> None:
    page = open_page("about:blank")
    inline = '<script>document.title = "stolen"</script><p id="p" style="color: red" onclick="steal()">text</p></body>'

    def inject(route) -> None:  # noqa: ANN001 (playwright's)
        response = route.fetch()
        route.fulfill(response=response, body=response.text().replace("</body>", inline))

    page.route("**/explorer/", inject)
    page.goto(address(rest))
    page.get_by_role("heading", name="Hourglass explorer").wait_for()
    assert page.title() == "Hourglass explorer"
    assert page.evaluate("getComputedStyle(document.querySelector('#p')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in text for text in complaints.texts)
    complaints.texts.clear()


def test_an_empty_server_is_explained_and_a_model_appears(tmp_path: Path, open_page: Open) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    with serving_rest(repository) as empty:
        page = open_page(address(empty))
        expect(page.get_by_text("This server has no model to show: no model serves")).to_be_visible()
        expect(page.get_by_text("python -m export RUN")).to_be_visible()
        copy_version(repository, "vae", 1)
        empty.served.app.manager.rescan()
        page.get_by_role("heading", name="vae, version 1").wait_for()
        wait_for_picture(page, "Decoded picture")


def test_a_server_that_dies_and_comes_back(models: Path, open_page: Open, complaints: Complaints) -> None:
    with serving_rest(models) as first:
        port = first.served.app.rest_port
        page = open_page(address(first))
        choose(page, "vae")
        before = wait_for_picture(page, "Decoded picture")
    expect(page.get_by_role("alert").filter(has_text="The server does not answer")).to_be_visible(timeout=20_000)
    with serving_rest(models, rest_port=port):
        expect(page.get_by_role("alert").filter(has_text="The server does not answer")).to_have_count(0, timeout=20_000)
        expect(page.get_by_role("heading", name="vae, version 1")).to_be_visible()
        page.get_by_role("application", name="Map of the latent space").press("Shift+ArrowUp")
        wait_for_change(page, "Decoded picture", before)
    assert all("ERR_" in text or "503" in text for text in complaints.texts)
    complaints.texts.clear()
