"""What an engine refuses, told by its kind: never, lacking, not now, a defect of ours, or no answer at all.

Those of 20.10.24, 26.1.5, 28.5.2 and of a 29 with the image store of containerd were recorded on servers, those of 26,
28 and a few of 29 are from the source and from public reports.  What is said amid a shutdown is systemd's, by runc.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import Lacking, MvdError, NotNow, StepFailed, Unavailable
from gitops_mvd.core.text import cause
from gitops_mvd.docker.answers import inspected, refused_start, verdict

ANSWERS = json.loads((Path(__file__).parents[1] / "contract/fixtures/docker-answers.json").read_text())
MEANS: dict[str, type[MvdError]] = {
    "never": StepFailed,
    "ours": StepFailed,
    "lacking": Lacking,
    "not now": NotNow,
    "unavailable": Unavailable,
}


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer['docker']}: {answer['says'][-60:]}")
def test_an_answer_is_told_by_its_kind(answer: Any) -> None:
    if answer["step"] == "start":
        error: MvdError = refused_start("web", answer["says"])
    else:
        error = verdict(answer["status"], answer["says"], f"{answer['step']} web")
    assert type(error) is MEANS[answer["means"]], str(error)
    assert (
        error.message.startswith("internal error: ") == ("please report" in error.hint) == (answer["means"] == "ours")
    )
    assert "9" * 13 not in error.message
    assert "hush" not in str(error)


@pytest.mark.parametrize("docker", ["20.10.24", "26", "26.1.5", "28", "28.5.2", "29"])
def test_the_cause_of_a_start_stands_in_a_status_of_140_characters(docker: str) -> None:
    starts = [answer["says"] for answer in ANSWERS if answer["docker"] == docker and answer["step"] == "start"]
    causes = ("no such file", "not a directory", "already", "no matching entries", "exchange full", "memory")
    known = [(says, word) for says in starts for word in causes if word in says]
    assert known
    for says, word in known:
        told = f"shop: rolled back: {refused_start('web', says).message}"[:140]
        assert word in told, told


@pytest.mark.parametrize(
    ("state", "refused"), [("created", "no such port"), ("exited", "no such port"), ("running", "")]
)
def test_why_an_engine_did_not_start_a_container_is_read_whether_it_ran_before_or_not(state: str, refused: str) -> None:
    there = inspected(
        {
            "Id": "1" * 64,
            "Name": "/mvd-shop-web-1",
            "State": {
                "Status": state,
                "Error": "no such port",
                "StartedAt": "2026-01-01T10:00:00Z",
                "FinishedAt": "2026-01-01T11:00:00Z",
                "ExitCode": 128,
                "Pid": 0,
            },
            "Config": {"Labels": {}},
            "HostConfig": {},
            "NetworkSettings": {"Networks": {}},
        }  # type: ignore[typeddict-item]
    )
    assert there.refused == refused


def test_only_the_way_of_an_engine_is_left_out() -> None:
    said = 'GET /: failed to create task for container: 7, exec: "x": no'
    assert cause(said) == said
    assert cause(f"container {'a' * 64} is gone") == f"container {'a' * 12} is gone"
