from collections.abc import Callable

import pytest
from hourglass_client import Client, UnavailableError
from hourglass_client.channels import channel_settings
from hourglass_client.proxies import proxy_advice

from tests.client.conftest import Start
from tests.client.test_channels import HERE

# Nothing listens on this port.
DEAD = "http://user:password@127.0.0.1:9"
CALLS: dict[str, Callable[[Client], object]] = {
    "call": lambda client: client.get_model(),
    "stream": lambda client: next(client.stream([])),
}


@pytest.fixture(autouse=True)
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", DEAD)


def test_this_machine_is_called_directly(start: Start) -> None:
    server = start()
    with Client(server.address) as client:
        client.get_model()
    assert server.calls == 1


@pytest.mark.parametrize("address", [*HERE, ["10.0.0.1:1", "10.0.0.2:1"]], ids=str)
def test_no_proxy_for_this_machine_and_for_lists(address: str | list[str]) -> None:
    settings = channel_settings(address, None, None)
    assert ("grpc.enable_http_proxy", 0) in settings.options
    assert settings.proxy_advice == ""


@pytest.mark.parametrize("kind", CALLS)
def test_a_proxy_is_named_when_the_server_cannot_be_reached(kind: str) -> None:
    with (
        Client("models.example:8001", timeout_seconds=5) as client,
        pytest.raises(UnavailableError, match=r"http_proxy .* 127\.0\.0\.1:9: set no_proxy=models\.example") as caught,
    ):
        CALLS[kind](client)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (
            {"http_proxy": "http://proxy.example"},
            "http_proxy leads this connection through the proxy proxy.example:80:",
        ),
        ({"https_proxy": "http://other:1"}, "https_proxy leads this connection through the proxy other:1:"),
        ({"https_proxy": "http://other:1", "grpc_proxy": "http://third:2"}, "grpc_proxy"),
        # What gRPC takes no proxy from.
        ({"http_proxy": ""}, None),
        ({"http_proxy": "https://proxy:1"}, None),
        ({"http_proxy": "http://proxy:port"}, None),
        ({"https_proxy": "", "http_proxy": "http://proxy:1"}, None),
        ({"no_proxy": "other, 10.1.0.0/16"}, None),
        ({"no_proxy": "10.2.0.0/16,.example"}, "http_proxy"),
        ({"no_proxy": "10.1.2.3", "no_grpc_proxy": "elsewhere"}, "http_proxy"),
    ],
    ids=str,
)
def test_the_proxy_that_grpc_takes(
    variables: dict[str, str], named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    advice = proxy_advice("10.1.2.3")
    assert named in advice if named else advice == ""


def test_a_domain_of_no_proxy_holds_its_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", ".Example,elsewhere")
    assert proxy_advice("models.example") == ""
    assert proxy_advice("models.example.com") != ""
