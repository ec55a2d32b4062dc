"""Configuration: sources, defaults and error messages of settings."""

import dataclasses
from pathlib import Path

import pytest

from server.addresses import TrustedProxies, is_loopback, join_host_port
from server.calls.call import FOREVER, Call
from server.config import Config
from server.execution_config import BatchingConfig, LimitsConfig, SessionConfig
from server.settings import SettingsError
from tests.server.batching.batcher_harness import Recorder


def parsed(*arguments: str, **environment: str) -> Config:
    return Config.parse("server", arguments, environment)


def test_defaults() -> None:
    config = parsed("--repository", "models")
    assert config.repository == Path("models")
    assert (config.host, config.port, config.metrics_port) == ("127.0.0.1", 8001, 8002)
    assert (config.max_request_rows, config.max_message_bytes) == (1024, 64 * 2**20)
    assert (config.max_image_pixels, config.max_queue_rows) == (4_194_304, 8192)
    assert (config.max_resized_pixels, config.max_image_side) == (50_331_648, 65_535)
    assert (config.max_image_scans, config.max_image_parts) == (32, 16_384)
    assert (config.max_queue_delay_ms, config.device, config.transport) == (0, "auto", "auto")
    assert (config.first_message_seconds, config.max_waiting_calls) == (60, 16_384)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ((), 0),
        (("--host", "unix:/run/hourglass.sock"), 0),
        (("--host", "::"), 3),
        (("--host", "10.0.0.1", "--lame-duck-seconds", "0"), 0),
        (("--lame-duck-seconds", "1.5"), 1.5),
    ],
)
def test_balancers_have_time_to_notice_a_stop(arguments: tuple[str, ...], seconds: float) -> None:
    assert parsed("--repository", "models", *arguments).lame_duck == seconds


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("ipv4:10.1.2.3:50000", ["1.1.1.1, 192.0.2.7"], "ipv4:192.0.2.7:0"),
        ("ipv4:10.1.2.3:50000", ["192.0.2.6", "192.0.2.7"], "ipv4:192.0.2.7:0"),
        ("ipv4:10.1.2.3:50000", ["2001:db8:1:2:3::4"], "ipv6:[2001:db8:1:2::]:0"),
        ("ipv6:%5B::ffff:10.1.2.3%5D:50000", ["192.0.2.7"], "ipv4:192.0.2.7:0"),
        ("ipv6:[fd00::1]:50000", ["192.0.2.7"], "ipv4:192.0.2.7:0"),
        ("unix:", ["192.0.2.7"], "ipv4:192.0.2.7:0"),
        ("ipv4:10.1.2.3:50000", [], "ipv4:10.1.2.3:50000"),
        ("ipv4:10.1.2.3:50000", ["192.0.2.7, nobody"], "ipv4:10.1.2.3:50000"),
        ("ipv4:10.2.0.1:50000", ["192.0.2.7"], "ipv4:10.2.0.1:50000"),
        ("", ["192.0.2.7"], "ipv4:192.0.2.7:0"),
    ],
)
def test_a_trusted_proxy_says_who_calls(peer: str, forwarded: list[str], caller: str) -> None:
    proxies = TrustedProxies("10.1.0.0/16, fd00::1,unix")
    assert proxies.peer(peer, [("x-forwarded-for", value) for value in forwarded]) == caller


@pytest.mark.parametrize("listed", ["::ffff:10.1.2.3", "::ffff:10.1.0.0/112", " 10.1.0.1/16 "])
def test_a_proxy_may_be_listed_in_any_form(listed: str) -> None:
    named = [("x-forwarded-for", "192.0.2.7")]
    assert TrustedProxies(listed).peer("ipv4:10.1.2.3:50000", named) == "ipv4:192.0.2.7:0"
    assert TrustedProxies(listed).peer("ipv6:[::1]:50000", named) == "ipv6:[::1]:50000"


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:192.0.2.1:50000", "ipv4:192.0.2.1"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:50000", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2:7::8%5D:50001", "ipv6:2001:db8:1:2::/64"),
        # As `TrustedProxies.peer` names it.
        ("ipv6:[2001:db8:1:2::]:0", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:3::1]:50000", "ipv6:2001:db8:1:3::/64"),
        ("ipv6:%5Bfe80::1%252%5D:50000", "ipv6:fe80::/64"),
        ("http:192.0.2.1:50000", "http:192.0.2.1"),
        ("http:2001:db8:1:2::1:50000", "http:2001:db8:1:2::/64"),
        ("unix:", "unix"),
        ("", "unknown"),
    ],
)
def test_an_ipv6_network_is_one_caller(peer: str, caller: str) -> None:
    """Addresses in it cost nothing: with one for each call, its holder would have as many turns."""
    call = Call("Encode", 0, FOREVER, (), Recorder(), "token", lambda *_: None)
    call.peer = peer
    assert call.caller == caller


def test_a_flag_comes_before_the_environment() -> None:
    environment = {
        "HOURGLASS_REPOSITORY": "there",
        "HOURGLASS_PORT": "7000",
        "HOURGLASS_CUDA_GRAPHS": "true",
        "HOURGLASS_FAIR_QUEUE": "Off",
        "HOURGLASS_HOST": "",
        "HOURGLASS_UNHEARD_OF": "1",
    }
    config = parsed("--port", "7001", "--no-reflection", "--max-queue-delay-ms=2.5", **environment)
    assert (config.repository, config.port, config.host) == (Path("there"), 7001, "127.0.0.1")
    assert (config.cuda_graphs, config.fair_queue, config.reflection) == (True, False, False)
    assert config.max_queue_delay_ms == 2.5


def test_parts_take_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cuda")
    assert SessionConfig().device == "auto"
    assert BatchingConfig().concurrent_runs == 0
    assert LimitsConfig().max_request_rows == 1024


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--repository (HOURGLASS_REPOSITORY) is required"),
        (("--repository", "m", "--max-request-rows", "0"), "--max-request-rows (HOURGLASS_MAX_REQUEST_ROWS)"),
        (("--repository", "m", "--trusted-proxies", "envoy"), "such as 10.0.0.1,10.1.0.0/16, or unix, got 'envoy'"),
        (("--repository", "m", "--load-reports", "on"), "expected one of 'off', 'stream', 'calls', got 'on'"),
        (("--repository", "m", "--port", "65536"), "expected a whole number from 0 to 65535, got '65536'"),
        (("--repository", "m", "--port", "1.5"), "expected a whole number from 0 to 65535, got '1.5'"),
        (("--repository", "m", "--heavy-threads", ""), "expected a whole number from 1, got ''"),
        (("--repository", "m", "--drain-seconds", "0"), "expected a number above 0, got '0'"),
        (("--repository", "m", "--drain-seconds", "inf"), "expected a number above 0, got 'inf'"),
        (("--repository", "m", "--trace-sample-ratio", "nan"), "expected a number from 0 to 1, got 'nan'"),
        (("--repository", "m", "--transport", "Native"), "expected one of 'auto', 'native', 'grpcio', got 'Native'"),
        (("--repository", "m", "--versions", "9" * 5000), "expected latest, all, or version numbers such as 1,3"),
        (("--repository", "m", "--repo", "n"), "--repo"),
        (("--repository", "m", "--port"), "--port"),
        (("--repository", "m", "surplus"), "surplus"),
        (("--repository", "m", "--versions", "1,two"), "expected latest, all, or version numbers such as 1,3"),
        (("--repository", "m", "--versions", "0"), "expected latest, all, or version numbers such as 1,3"),
        (("--repository", "m", "--poll-seconds", "-1"), "expected a number from 0, got '-1'"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parsed(*arguments)
    assert words in str(refused.value)


def test_each_wrong_setting_has_its_sentence() -> None:
    with pytest.raises(SettingsError) as refused:
        parsed("--repository", "m", "--port", "x", HOURGLASS_REFLECTION="maybe", HOURGLASS_DEVICE="tpu")
    assert str(refused.value).count("; ") == 2
    assert "--reflection (HOURGLASS_REFLECTION): expected one of 'true'" in str(refused.value)


def test_a_whole_number_may_be_written_as_a_float_by_nobody() -> None:
    with pytest.raises(SettingsError):
        BatchingConfig(max_queue_rows=2.5)
    assert BatchingConfig(max_queue_delay_ms=2).max_queue_delay_ms == 2.0


def test_every_setting_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed("--help")
    assert left.value.code == 0
    page = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')}" in page
        assert f"{' '.join(field.metadata['description'].split())} (default: " in page


@pytest.mark.parametrize(
    ("given", "host"),
    [("[::1]", "::1"), ("::1", "::1"), ("unix:///run/h.sock", "unix:/run/h.sock"), ("unix:h.sock", "unix:h.sock")],
)
def test_hosts_may_be_written_as_in_urls(given: str, host: str) -> None:
    config = Config(repository="r", host=given)
    assert config.host == host
    assert is_loopback(config.host)
    assert join_host_port(config.host, 1) == (host if "unix" in host else "[::1]:1")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": ""}, "expected an address or a name, 127.0.0.1 for example, got ''"),
        ({"admin_host": "unix:/a"}, "--admin-host, --metrics-host: expected an address or a name, got a Unix socket"),
        ({"metrics_host": "unix:/a"}, "expected an address or a name, got a Unix socket"),
        ({"host": "unix:/a", "rest_port": 0}, "--rest-port needs a --host with an address"),
    ],
)
def test_hosts_that_cannot_be(settings: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Config(repository="r", **settings)
