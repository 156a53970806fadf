"""A skip is a hole in the proof: where everything can be installed (CI), none may pass unseen."""

from __future__ import annotations

import os
import signal

import pytest


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and ntx keeps that.  The tests interrupt it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("a test was skipped, which in CI is a failure: its reason stands below", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
