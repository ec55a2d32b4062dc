"""Routes, headers and files of the explorer."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from server.explorer.page import CONTENT_SECURITY_POLICY, STATIC
from tests.server.conftest import GOLDEN
from tests.server.rest.conftest import Rest, serving_rest

# Of its modules, styles and vendored library as they travel; docs/explorer.md states it.
MOST_KILOBYTES = 48
LONGEST_LINES = 300


def test_the_root_leads_to_the_page_by_relative_addresses(rest: Rest) -> None:
    for path in ("/", "/explorer"):
        answer = rest.get(path)
        assert (answer.status, answer.headers["location"]) == (307, "explorer/")
    page = rest.get("/explorer/")
    assert page.status == 200
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page.body.decode())
    assert addresses
    assert all(re.match(r"static/[0-9a-f]{16}/", address) for address in addresses)


def test_headers_keep_scripts_and_strangers_out(rest: Rest) -> None:
    page = rest.get("/explorer/")
    file = re.search(r'src="([^"]+)"', page.body.decode())
    assert file is not None
    for answer in (page, rest.get(f"/explorer/{file[1]}")):
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.body.decode())


def test_files_are_kept_for_good_and_the_page_is_asked_for_each_time(rest: Rest) -> None:
    page = rest.get("/explorer/")
    assert page.headers["cache-control"] == "no-cache"
    assert rest.get("/explorer/", If_None_Match=page.headers["etag"]).status == 304
    found = re.search(r"static/([0-9a-f]{16})/main.js", page.body.decode())
    assert found is not None
    main = rest.get(f"/explorer/{found[0]}")
    assert main.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert main.headers["content-type"] == "text/javascript; charset=utf-8"
    assert main.body == (STATIC / "main.js").read_bytes()


@pytest.mark.parametrize(
    "path", ["static/0123456789abcdef/main.js", "static/0123456789abcdef/vendor/SHA256SUMS", "../../page.py", "other"]
)
def test_nothing_else_is_served(rest: Rest, path: str) -> None:
    answer = rest.get(f"/explorer/{path}")
    assert answer.status == 404
    assert answer.document["error"]


def test_it_can_be_turned_off() -> None:
    with serving_rest(GOLDEN, explorer=False) as without:
        assert without.get("/explorer/").status == without.get("/").status == 404
        assert without.get("/v1/metrics").status == 200


def test_vendored_files_are_the_published_ones() -> None:
    folder = STATIC / "vendor"
    listed = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    del found["SHA256SUMS"]
    assert listed == found
    assert {"LICENSE-htm.txt", "LICENSE-preact.txt"} <= found.keys()


def modules() -> list[Path]:
    return [path for path in STATIC.rglob("*.js") if path.parent.name != "vendor"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_modules_are_short_say_what_they_are_and_name_no_other_host(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_LINES
    assert lines[0].startswith("// ")
    assert not re.search(r"https?://|localStorage|sessionStorage|document\.cookie|innerHTML|\beval\b", "\n".join(lines))


def test_its_weight_and_that_files_travel_compressed(rest: Rest) -> None:
    page = rest.get("/explorer/").body.decode()
    files = set(re.findall(r'(?:href|src)="([^"]+)"', page))
    weight = len(page)
    for file in files:
        answer = rest.get(f"/explorer/{file}", Accept_Encoding="gzip, br")
        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(answer.body) == rest.get(f"/explorer/{file}").body
        weight += len(answer.body)
    assert len(files) == len(modules()) + 3, "its modules, and the vendored one, styles, icon"
    assert weight < 1000 * MOST_KILOBYTES


@pytest.mark.parametrize(
    "path",
    [
        "static/x/../../../server/config.py",
        "static/{version}/..%2f..%2fpage.py",
        "static/{version}/%2e%2e/page.py",
        "static/{version}//etc/passwd",
        "static/{version}/index.html",
        "static/{version}/main.js%00.css",
        "static/{version}/MAIN.JS",
        "static/{version}/",
    ],
)
def test_no_path_leads_out_of_the_page_s_files(rest: Rest, path: str) -> None:
    version = json.loads(rest.get("/explorer/").headers["etag"])
    answer = rest.get(f"/explorer/{path.format(version=version)}")
    assert answer.status == 404
    assert "root:" not in answer.body.decode()
    assert "import" not in answer.body.decode()


def test_methods_and_ranges(rest: Rest) -> None:
    whole = rest.get("/explorer/")
    head = rest.send("HEAD", "/explorer/", None, {})
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-security-policy"] == whole.headers["content-security-policy"]
    assert rest.get("/explorer/", Range="bytes=0-3").body == whole.body
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        refused = rest.send(method, "/explorer/", None, {})
        assert (refused.status, set(refused.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
