"""What is watched is shown again when it differs, and its last sight stays while nobody answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from gitops_mvd.cli.watching import states, watch
from gitops_mvd.core.errors import Unavailable


def looking(*seen: str | Unavailable) -> Callable[[], str]:
    """Sees one after the other; an error is raised."""
    left = iter(seen)

    def look() -> str:
        found = next(left)
        if isinstance(found, Unavailable):
            raise found
        return found

    return look


def test_while_nothing_can_be_seen_the_last_sight_stays_with_the_reason() -> None:
    found = states("one", looking(Unavailable("the forge does not answer"), "two"), lambda: None)
    assert list(itertools.islice(found, 3)) == [
        ("one", ""),
        ("one", "cannot be asked now: the forge does not answer"),
        ("two", ""),
    ]


@pytest.mark.parametrize("machine", [False, True])
def test_in_a_pipe_only_what_differs_is_printed(capsys: pytest.CaptureFixture[str], machine: bool) -> None:
    seen = [(name, "") for name in ("one", "one", "two")]
    watch(seen, machine, lambda name: {"name": name}, lambda name: [f"name {name}"])
    out = capsys.readouterr().out
    if machine:
        assert [json.loads(f"{part}}}") for part in out.split("}")[:-1]] == [{"name": "one"}, {"name": "two"}]
    else:
        assert out == "name one\nname two\n"
