"""Small file systems for tests; and no test is skipped unseen in CI, where everything can be installed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.power import PoweredDisk
from tests.support.servers import require_root

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    # A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP, and ntx keeps that.  The tests
    # interrupt it, and hang up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A process that began a long file as its last would be waited for.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("a test was skipped, which in CI is a failure: its reason stands below", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def small_fs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system of its own: needs root."""
    require_root("to mount a small file system")
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        path = tmp_path / f"small{len(mounted)}"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def powered_disk(tmp_path: Path) -> Iterator[PoweredDisk]:
    """A file system on a disk whose power can be cut: needs root."""
    disk = PoweredDisk(tmp_path)
    try:
        yield disk
    finally:
        disk.close()
