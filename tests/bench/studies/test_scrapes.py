import subprocess
import sys

import pytest

from bench.studies import scrapes
from bench.studies.scrapes import compare, scraper, wait_until_ready

NOWHERE = "127.0.0.1:1"


def test_a_failing_scrape_ends_the_measurement() -> None:
    with scraper(NOWHERE) as found:
        found.check()
        found.due.set()
        found.process.join(60)
        with pytest.raises(SystemExit, match="a scrape failed"):
            found.check()


@pytest.mark.parametrize(
    ("program", "seconds", "message"),
    [
        ("raise SystemExit(3)", 60, "ended with status 3 before it was ready"),
        ("input()", 0.1, r"not ready after 0\.1 s"),
    ],
)
def test_a_server_that_does_not_become_ready_is_not_waited_for(program: str, seconds: float, message: str) -> None:
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) as process:
        with pytest.raises(SystemExit, match=message):
            wait_until_ready(process, NOWHERE, seconds)
        process.kill()


def test_quantiles_are_of_all_rounds_together(capsys: pytest.CaptureFixture[str]) -> None:
    even = [[1.0] * 500] * 4
    # One round in four is slow: the median of rounds would not show it.
    assert compare(even, [*even[:3], [scrapes.LIMIT + 1] * 500]) == 1
    assert "p99.9: 1.00 ms, with scrapes 3.00 ms, 3.00 times" in capsys.readouterr().out
    assert compare(even, even) == 0
