"""The lab of the integration tests: opened once a run, and skipped, with the reason, where it can not be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.engine import LabUnavailable
from tests.lab.lab import Lab
from tests.lab.server import Server


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """A lab with nothing on it yet; what takes long in opening it is said on the terminal."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if terminal:
            terminal.write_line(f"lab: {line}")

    try:
        opened = Lab.open(say)
    except LabUnavailable as why:
        pytest.skip(f"no lab: {why}")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def server(lab: Lab) -> Server:
    """A booted server with this checkout installed, shared by all tests: leave it as you found it."""
    server = lab.server("shared")
    server.install(lab.wheel)
    return server
