"""Settings: where they come from, what they default to, what is said when they are wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.config import BatchingConfig, Config, LimitsConfig, SessionConfig, explain


def parsed(*arguments: str) -> Config:
    return Config(_cli_parse_args=list(arguments))  # type: ignore[call-arg]


def test_defaults() -> None:
    config = parsed("--repository", "models")
    assert config.repository == Path("models")
    assert (config.host, config.port, config.metrics_port) == ("127.0.0.1", 8001, 8002)
    assert (config.max_request_rows, config.max_message_bytes) == (1024, 64 * 2**20)
    assert (config.max_image_pixels, config.max_queue_rows) == (4_194_304, 8192)
    assert (config.max_queue_delay_ms, config.device, config.transport) == (0, "auto", "auto")


def test_a_flag_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_REPOSITORY", "there")
    monkeypatch.setenv("HOURGLASS_PORT", "7000")
    monkeypatch.setenv("HOURGLASS_CUDA_GRAPHS", "true")
    monkeypatch.setenv("HOURGLASS_HOST", "")
    config = parsed("--port", "7001", "--no-reflection", "--max-queue-delay-ms", "2.5")
    assert (str(config.repository), config.port, config.host) == ("there", 7001, "127.0.0.1")
    assert (config.cuda_graphs, config.reflection, config.max_queue_delay_ms) == (True, False, 2.5)


def test_parts_take_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cuda")
    assert SessionConfig().device == "auto"
    assert BatchingConfig().concurrent_runs == 0
    assert LimitsConfig().max_request_rows == 1024


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--repository", "m", "--max-request-rows", "0"), "--max-request-rows (HOURGLASS_MAX_REQUEST_ROWS)"),
        (("--repository", "m", "--port", "65536"), "less than or equal to 65535, got '65536'"),
        (("--repository", "m", "--versions", "1,two"), "wanted latest, all, or version numbers such as 1,3"),
        (("--repository", "m", "--versions", "0"), "wanted latest, all, or version numbers such as 1,3"),
        (("--repository", "m", "--poll-seconds", "-1"), "greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        parsed(*arguments)
    assert words in explain(refused.value)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Config.model_fields.values())
