"""The lab of the integration tests: opened once a run, and skipped, with the reason, where it cannot be."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.lab.engine import LabUnavailable
from tests.lab.lab import Lab
from tests.lab.server import Server

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def put_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a failed test has merged is taken back: else no later commit on its server would turn green."""
    of_test = (request.getfixturevalue(name) for name in ("story", "database") if name in request.fixturenames)
    before = [(story, story.repository.resolve("main")) for story in of_test]
    yield
    if request.node.stash.get(FAILED, False):
        for story, commit in before:
            story.put_back(commit)


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


@pytest.fixture(scope="module")
def edge(lab: Lab) -> Iterator[Server]:
    """A server with a gateway that others share."""
    server = lab.server("edge")
    server.install(lab.wheel)
    server.start_gateway("postgres", "0.0.0.0:8001")
    yield server
    server.destroy()
