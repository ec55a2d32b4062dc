"""Hostile bundles, answers and pages: nothing of theirs runs, no token leaves, and what is wrong is a sentence."""

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from bundle import layout
from tests.server.conftest import copy_version, metric
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
from tests.server.explorer.models import add_points, write_linear
from tests.server.rest.conftest import Rest, serving_rest

SCRIPT = '"><img src=x onerror=document.title="stolen"><script>document.title="stolen"</script>${7*7}{{7*7}}'
LONG = "x" * 2_000
TOKEN = "an-inference-token-of-the-tests"  # noqa: S105 (of a server that lives for a test)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """A server of bundles whose every text is hostile."""
    repository = tmp_path_factory.mktemp("hostile") / "models"
    repository.mkdir()
    # Names that objects of JavaScript have already.
    folder = write_linear(repository, "attributes", 2, ["constructor", "__proto__", "toString", SCRIPT, LONG])
    add_points(folder, 2_000, [SCRIPT, LONG, "__proto__", "", *(f"class {index}" for index in range(500))])
    for name in ("attributes", "multitask"):
        folder = repository / name / "1" if name == "attributes" else copy_version(repository, name, 1)
        model = layout.read_model(folder)
        for index in range(len(model.labels)):
            model.labels[index] = SCRIPT if index else LONG
        model.family = "vae" if name == "attributes" else SCRIPT
        model.provenance.update({SCRIPT: SCRIPT, "__proto__": LONG, "constructor": "a"})
        model.metrics.update({SCRIPT: 1.0, "__proto__": float("nan"), "hasOwnProperty": 1e300})
        (folder / layout.MODEL_FILE).write_bytes(layout.encode_model(model))
    with serving_rest(repository) as started:
        yield started


@pytest.mark.parametrize("model", ["attributes", "multitask"])
def test_texts_of_a_bundle_are_shown_as_texts(hostile: Rest, open_page: Open, model: str) -> None:
    page = open_page(address(hostile), viewport={"width": 800, "height": 900})
    choose(page, model)
    draw(page)
    wait_for_picture(page, "Your picture")
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.get_by_text(SCRIPT, exact=True).first).to_be_attached()
    assert page.locator("img, script:not([src])").count() == 0
    assert page.title() == "Hourglass explorer"
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    if model == "attributes":
        before = pixels_of(page, "Decoded picture")
        with page.expect_request("**/v1/Edit") as sent:
            page.get_by_label("__proto__", exact=True).fill("2")
        assert json.loads(sent.value.post_data or "")["shifts"] == [{"attribute": "__proto__", "amount": 2}]
        wait_for_change(page, "Decoded picture", before)
        expect(section(page, "Latent space").get_by_label("constructor", exact=True)).to_have_value("0")
        legend = page.get_by_role("list", name="Classes")
        expect(legend).to_contain_text("and 444 more classes")


def test_a_copied_call_runs_nothing_of_an_address(rest: Rest, open_page: Open, tmp_path: Path) -> None:
    """A prefix is the proxy's, but a link may name any that it accepts."""
    page = open_page("about:blank", permissions=["clipboard-read", "clipboard-write"])
    prefix = "/a';touch stolen;'$(touch stolen)[1-2]/"
    base = f"http://{rest.address}"

    def forward(route: Route) -> None:
        path = route.request.url.partition("/explorer/")[2] if "/explorer/" in route.request.url else None
        tail = f"explorer/{path}" if path is not None else "v1/" + route.request.url.partition("/v1/")[2]
        route.fulfill(response=route.fetch(url=f"{base}/{tail}"))

    page.context.route(f"{base}/**", forward)
    page.goto(f"{base}{prefix}explorer/")
    choose(page, "vae")
    wait_for_picture(page, "Decoded picture")
    call = section(page, "The last call")
    call.get_by_role("button", name="Copy curl").click()
    expect(call.get_by_role("status")).to_contain_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    ran = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "no_proxy": "*"},
    )
    left = list(tmp_path.iterdir())
    assert left == []
    assert "Not Found" in ran.stdout.decode(), "one request, to the address of the page"


ANSWERS = (
    (200, "text/html", "<h1>Welcome to the hotel's network</h1>"),
    (200, "application/json", "null"),
    (200, "application/json", '{"samples": 3}'),
    (502, "text/html", "<script>alert(1)</script>"),
    (500, "application/json", "null"),
    (401, "text/html", "<h1>Log in</h1>"),
)


def test_an_answer_of_another_form_is_a_sentence(rest: Rest, open_page: Open, complaints: Complaints) -> None:
    page = open_page("about:blank")
    page.route("**/v1/metrics", lambda route: route.abort())
    page.goto(address(rest))
    alert = page.get_by_role("alert").first
    for status, kind, body in ANSWERS:
        page.unroute("**/v1/metrics")
        page.route("**/v1/metrics", partial(answer, status=status, content_type=kind, body=body))
        with page.expect_response("**/v1/metrics"):
            look_now(page)
        expect(alert).to_be_visible()
        said = alert.inner_text()
        assert said.endswith(".")
        assert not any(word in said for word in ("TypeError", "undefined", "Cannot read", "<", "JSON"))
    assert page.title() == "Hourglass explorer"
    # Once it answers as it should, all is well without a reload.
    page.unroute("**/v1/metrics")
    look_now(page)
    page.get_by_role("heading", name="version 1").wait_for()
    expect(alert).to_be_hidden()
    complaints.texts.clear()


def answer(route: Route, **fields: Any) -> None:
    route.fulfill(**fields)


def look_now(page: Page) -> None:
    """Have the page ask the server, as it does when it is seen again."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_a_view_asks_again_what_an_absent_server_could_not_answer(
    rest: Rest, open_page: Open, complaints: Complaints
) -> None:
    page = open_page(address(rest))
    choose(page, "vae")
    before = wait_for_picture(page, "Decoded picture")
    page.route("**/v1/**", lambda route: route.abort())
    page.get_by_role("application", name="Map of the latent space").press("Shift+ArrowUp")
    expect(section(page, "Latent space").get_by_role("alert")).to_contain_text("The server does not answer")
    page.unroute("**/v1/**")
    look_now(page)
    wait_for_change(page, "Decoded picture", before)
    expect(section(page, "Latent space").get_by_role("alert")).to_be_hidden()
    # Its axes and points too.
    page.route("**/reference?*", lambda route: route.abort())
    page.get_by_label("Model", exact=True).select_option("plane")
    expect(page.get_by_role("alert").filter(has_text="The server does not answer")).to_be_visible()
    page.unroute("**/reference?*")
    look_now(page)
    wait_for_picture(page, "Decoded picture")
    complaints.texts.clear()


def test_a_token_is_in_no_address_and_no_storage(
    models: Path, tmp_path: Path, open_page: Open, complaints: Complaints
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"inference {TOKEN}\n")
    with serving_rest(models, token_file=tokens) as closed:
        page = open_page("about:blank")
        requests: list[tuple[str, dict[str, str]]] = []
        page.on("request", lambda request: requests.append((request.url, request.headers)))
        page.goto(address(closed))
        field = page.get_by_label("Access token")
        field.fill("clé")
        field.press("Enter")
        expect(page.get_by_role("alert").first).to_contain_text("The token has characters that no token has")
        field.fill("wrong")
        field.press("Enter")
        expect(page.get_by_role("alert").first).to_contain_text("The server asks for a bearer token")
        field.fill("")
        field.press_sequentially(f" {TOKEN} ")
        field.press("Enter")
        choose(page, "vae")
        wait_for_picture(page, "Decoded picture")
        assert not any(TOKEN in url for url, _ in requests)
        senders = {url for url, headers in requests if TOKEN in headers.get("authorization", "")}
        assert senders
        assert all(url.startswith(f"http://{closed.address}/v1/") for url in senders)
        # A token is sent when it is complete, not at each key.
        assert {headers.get("authorization") for _, headers in requests} == {None, "Bearer wrong", f"Bearer {TOKEN}"}
        assert stored(page) == []
        call = section(page, "The last call")
        call.get_by_text("curl", exact=True).click()
        expect(call.get_by_role("region", name="curl call")).to_contain_text("Bearer $TOKEN")
        assert TOKEN not in page.content()
        page.reload()
        expect(page.get_by_label("Access token")).to_have_value("")
    assert all("401" in text for text in complaints.texts)
    complaints.texts.clear()


def stored(page: Page) -> list[str]:
    """All that the page keeps in its browser."""
    return page.evaluate("""async () => [
        ...Object.keys(localStorage), ...Object.keys(sessionStorage), ...(document.cookie ? [document.cookie] : []),
        ...(await indexedDB.databases()).map((each) => each.name),
        ...(globalThis.caches ? await caches.keys() : []),
        ...(history.state ? ["state"] : []), ...(name ? [name] : []), ...location.search, ...location.hash,
        ...(await navigator.serviceWorker?.getRegistrations() ?? []).map(() => "worker"),
    ]""")


@pytest.fixture
def other_site() -> Iterator[str]:
    """Another origin, whose page a test fills."""

    class Empty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>other</title>")

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_no_other_page_frames_it_or_reads_and_makes_calls(
    rest: Rest, open_page: Open, complaints: Complaints, other_site: str
) -> None:
    page = open_page(other_site)
    page.evaluate(f"document.body.innerHTML = '<iframe src=\"{address(rest)}\"></iframe>'")
    frame = page.frames[-1]
    page.wait_for_function("document.querySelector('iframe').contentDocument === null")
    assert frame.url == "chrome-error://chromewebdata/"
    script = """async ([url, options]) => {
        try { return (await fetch(url, options)).type; } catch { return "blocked"; }
    }"""
    base = f"http://{rest.address}"
    form = {"method": "POST", "headers": {"content-type": "text/plain"}, "body": "{}"}
    asked = {**form, "headers": {"content-type": "application/json"}}
    refused = {"method": "ListModels", "code": "PERMISSION_DENIED"}
    before = metric(rest.served, "autoencoder_requests_total", **refused)
    assert page.evaluate(script, [f"{base}/v1/ListModels", form]) == "blocked"
    assert metric(rest.served, "autoencoder_requests_total", **refused) == before + 1
    assert page.evaluate(script, [f"{base}/v1/ListModels", asked]) == "blocked"
    assert page.evaluate(script, [f"{base}/v1/metrics", {}]) == "blocked"
    assert page.evaluate(script, [f"{base}/explorer/", {"mode": "no-cors"}]) == "blocked"
    complaints.texts.clear()
