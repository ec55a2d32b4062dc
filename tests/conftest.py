"""What all tests share."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With HOURGLASS_REQUIRE_ALL=1 nothing may be skipped: an absent component is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("HOURGLASS_REQUIRE_ALL"):
        report.outcome = "failed"
        report.longrepr = f"HOURGLASS_REQUIRE_ALL is set, yet this was skipped: {report.longrepr}"
    return report
