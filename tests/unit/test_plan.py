"""How a plan is told."""

from __future__ import annotations

import pytest

from gitops_mvd.core.model import Change, Check, Gate, Plan, Resource
from gitops_mvd.core.plan import lines, told_check
from gitops_mvd.core.rollout import DRAINED, ON_EVERY_NODE
from gitops_mvd.probes import summary

HTTP = {"path": "/", "port": 80}


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (Check("http", {"path": "/health?token=hunter2", "port": 80}), "http /health 80 within 60s"),
        (Check("http", {**HTTP, "status": [200, 204]}, successes=3), "http / 80 200/204 within 60s, 3 times"),
        (Check("http", {**HTTP, "body": "hunter2", "header": {"X": "hunter2"}}), "http / 80 within 60s"),
        (Check("exec", {"command": ["mysqladmin", "-phunter2", "ping"], "timeout": 2.0}), "exec mysqladmin within 60s"),
        (Check("log", {"pattern": "hunter2", "every": 30.0}), "log every 30s within 60s"),
        (Check("heartbeat", {"path": "/run/alive", "every": 30.0}), "heartbeat /run/alive every 30s within 60s"),
        (Check("grpc", {"service": "", "port": 50051}, start_period=30, hold=5), "grpc 50051 within 90s, holds 5s"),
        (Check("route", {"left": ["mvd-a", "mvd-b"]}, 30), "route no longer to mvd-a, mvd-b within 30s"),
        (ON_EVERY_NODE, "route everywhere within 120s"),
        (Check(DRAINED, within=10), "at most 10s"),
    ],
)
def test_a_gate_is_told_without_what_may_be_secret(check: Check, told: str) -> None:
    assert told_check(check, summary) == told


def test_a_plan_is_told_a_step_a_line() -> None:
    old, new = (Resource("unit", f"mvd-a-web-{n}", "a", "web", {"state": "running"}) for n in "12")
    staged = new.with_spec(state="staged")
    check = Check("tcp", {"port": 80})
    steps = (Change(None, staged), Gate(new, check), Change(staged, new), Gate(new, check, required=False))
    plan = Plan(steps, (Gate(old, Check(DRAINED, within=5)), Change(old, None)))
    assert [" ".join(line.split()) for line in lines(plan, summary)] == [
        "+ unit mvd-a-web-2",
        "? health mvd-a-web-2 tcp 80 within 60s",
        "~ unit mvd-a-web-2 staged",
        "? health mvd-a-web-2 tcp 80 within 60s, or else go on",
        "? drain mvd-a-web-1 at most 5s",
        "- unit mvd-a-web-1",
    ]
