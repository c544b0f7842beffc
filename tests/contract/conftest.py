"""Contract tests marked `server` need a server's own systemd and Docker: elsewhere they are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    inside = os.environ.get("MVD_INSIDE") == "1" and Path("/proc/1/comm").read_text().strip() == "systemd"
    if item.get_closest_marker("server") and not inside:
        pytest.skip("runs inside a lab server, where tests/integration/test_inside.py takes it")
