"""A gateway in each of its modes, for whoever asks for one.

Tests marked `server` need a server's own systemd and Docker: elsewhere they are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.gateway import Gateway, running_gateway


def pytest_runtest_setup(item: pytest.Item) -> None:
    inside = os.environ.get("MVD_INSIDE") == "1" and Path("/proc/1/comm").read_text().strip() == "systemd"
    if item.get_closest_marker("server") and not inside:
        pytest.skip("runs inside a lab server, where tests/integration/test_inside.py takes it")


@pytest.fixture(scope="module", params=["off", "postgres"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for all tests of a module, once for each mode; a module that needs one of them has its own."""
    with running_gateway(request.param, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    """A gateway that holds nothing."""
    running.clear()
    return running
