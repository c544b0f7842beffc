"""The progress of an operation, in lines and drawn on a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from rich.console import Console
from rich.live import Live

from gitops_mvd.api.views import CommitView, OperationView, StepView
from gitops_mvd.cli.progress import MOST_RUNNING, Drawn, Progress

PULL = StepView("shop", "web", "create", "image", "registry/shop@sha256:1", seconds=3.21, state="done")
WAIT = StepView("shop", "web", "wait", "unit", "mvd-shop-web-1", "until http /health succeeds", seconds=60.0)


def operation(*steps: StepView, id: int = 7) -> OperationView:
    return OperationView(id, CommitView("7385d30"), ("sync",), 1.0, steps=steps)


def failed(step: StepView, why: str) -> StepView:
    return replace(step, state="failed", why=why)


def test_a_step_is_a_line_once_it_has_ended_and_only_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.show(None)
    progress.show(operation(PULL, WAIT))
    progress.show(operation(PULL, WAIT))
    progress.show(operation(PULL, failed(WAIT, "http 503\nand more")))
    progress.show(operation(PULL, id=8))
    assert capsys.readouterr().err.splitlines() == [
        "shop/web: create image registry/shop@sha256:1 (3.2 s)",
        "shop/web: wait unit until http /health succeeds (60.0 s): failed: http 503 and more",
        "shop/web: create image registry/shop@sha256:1 (3.2 s)",
    ]


@pytest.fixture
def live() -> Iterator[Live]:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=20, color_system=None)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield live


def shown(live: Live) -> list[str]:
    """All that was ever drawn, in lines without what steers the terminal."""
    file = live.console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue()))]


def test_on_a_terminal_what_runs_is_drawn_below_what_has_ended(live: Live) -> None:
    drawn = Drawn(live)
    drawn.show(operation(PULL, WAIT))
    lines = shown(live)
    assert "✓ shop/web: create image registry/shop@sha256:1 (3.2 s)" in lines
    assert any(line.startswith("… shop/web: wait unit until http /health succeeds") for line in lines)
    drawn.show(operation(PULL, failed(WAIT, "http 503")))
    assert any(line.startswith("✗ shop/web: wait unit until http /health succeeds") for line in shown(live))


def test_many_steps_at_once_do_not_fill_the_terminal(live: Live) -> None:
    Drawn(live).show(operation(*[WAIT] * (MOST_RUNNING + 5)))
    lines = shown(live)
    assert sum(line.startswith("… shop/web") for line in lines) == MOST_RUNNING
    assert "… 5 more" in lines
