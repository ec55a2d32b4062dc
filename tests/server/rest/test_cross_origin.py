"""No page in a browser loads or unloads a model: origins, hosts and content types of requests that do."""

from collections.abc import Iterator

import pytest
from starlette.requests import Request

from server.errors import PermissionDeniedError
from server.rest.cross_origin import check_origin
from tests.server.conftest import GOLDEN, metric, pixels
from tests.server.rest.conftest import Rest, document, serving_rest

LOAD = "/v2/repository/models/vae/load"
JSON = {"Content_Type": "application/json"}


@pytest.fixture(scope="module")
def controlled() -> Iterator[Rest]:
    with serving_rest(GOLDEN, model_control=True) as own:
        yield own


SERVED = {
    "no headers": {},
    "JSON": JSON,
    "JSON of a charset": {"Content_Type": "Application/JSON; charset=utf-8"},
    "localhost": {**JSON, "Host": "localhost:8000"},
    "IPv6": {**JSON, "Host": "[::1]:8000"},
    "its own page": {**JSON, "Host": "localhost:8000", "Origin": "http://localhost:8000"},
}
REFUSED = {
    "text": ({"Content_Type": "text/plain"}, 400, "content-type: expected application/json, got 'text/plain'"),
    "a form": ({"Content_Type": "application/x-www-form-urlencoded"}, 400, "content-type"),
    "no type": ({"Content_Type": ""}, 400, "content-type"),
    "another site": ({**JSON, "Origin": "http://evil.example"}, 403, "Origin"),
    "another port": ({**JSON, "Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403, "Origin"),
    "a file": ({**JSON, "Origin": "null"}, 403, "Origin"),
    "rebinding": ({**JSON, "Host": "evil.example", "Origin": "http://evil.example"}, 403, "Host"),
    "rebinding without an origin": ({"Host": "evil.example:8000"}, 403, "Host"),
    "no host": ({**JSON, "Host": "[::1"}, 403, "Host"),
}


@pytest.mark.parametrize("case", SERVED)
def test_programs_and_own_pages_control_models(controlled: Rest, case: str) -> None:
    assert controlled.post(LOAD, b"{}", **SERVED[case]).status == 200


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("action", ["load", "unload"])
def test_pages_of_others_do_not(controlled: Rest, action: str, case: str) -> None:
    headers, status, words = REFUSED[case]
    code = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED"}[status]
    labels = {"method": f"RepositoryModel{action.capitalize()}", "code": code}
    before = metric(controlled.served, "autoencoder_requests_total", **labels)
    answer = controlled.post(f"/v2/repository/models/vae/{action}", b"{}", **headers)
    assert answer.status == status
    assert words in answer.document["error"]
    assert metric(controlled.served, "autoencoder_requests_total", **labels) == before + 1
    assert controlled.get("/v2/models/vae/ready").status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded; charset=utf-8", ""])
def test_pages_of_others_call_typed_methods_with_a_preflight_alone(controlled: Rest, kind: str) -> None:
    """A browser asks before it sends JSON to another origin, and this server does not answer that with yes."""
    other = {"Host": "localhost:8000", "Origin": "http://evil.example"}
    answer = controlled.post("/v1/ListModels", b"{}", Content_Type=kind, **other)
    assert answer.status == 403
    assert "Content-Type" in answer.document["error"]
    asked = controlled.send("OPTIONS", "/v1/ListModels", None, {**other, "Access_Control_Request_Method": "POST"})
    assert asked.status == 405
    assert asked.headers["allow"] == "POST"
    assert not any(name.startswith("access-control-") for name in asked.headers)
    # Behind a proxy that allows the origin, or of programs, which name none.
    assert controlled.post("/v1/ListModels", b"{}", **JSON, **other).status == 200
    assert controlled.post("/v1/ListModels", b"{}", Content_Type=kind).status == 200
    own = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert controlled.post("/v1/ListModels", b"{}", Content_Type=kind, **own).status == 200


def test_inference_is_open_to_any_page(controlled: Rest) -> None:
    headers = {"Content_Type": "text/plain", "Host": "evil.example", "Origin": "http://evil.example"}
    assert controlled.post("/v2/models/vae.encode/infer", document(pixels(1)), **headers).status == 200


def test_any_name_is_a_host_of_a_server_on_the_network() -> None:
    request = Request(
        {"type": "http", "headers": [(b"host", b"models.example"), (b"origin", b"https://models.example")]}
    )
    check_origin(request, "0.0.0.0")  # noqa: S104 (nothing listens)
    check_origin(request, "models.example")
    with pytest.raises(PermissionDeniedError, match="expected Host"):
        check_origin(request, "::1")
