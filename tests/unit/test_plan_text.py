"""A plan in words."""

from __future__ import annotations

import pytest

from gitops_mvd.cli.plan import step_lines
from gitops_mvd.core.model import Change, Check, Gate, Plan, Resource
from gitops_mvd.core.plan_text import as_json, gate_text
from gitops_mvd.core.rollout import DRAINED, ON_EVERY_NODE
from gitops_mvd.probes import summary

HTTP = {"path": "/", "port": 80}


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (Check("http", {"path": "/health?token=hunter2", "port": 80}), "until http /health 80 succeeds (at most 60 s)"),
        (
            Check("http", {**HTTP, "status": [200, 204]}, successes=3),
            "until http / 80 200/204 succeeds (3 times, at most 60 s)",
        ),
        (
            Check("http", {**HTTP, "body": "hunter2", "header": {"X": "hunter2"}}),
            "until http / 80 succeeds (at most 60 s)",
        ),
        (
            Check("exec", {"command": ["mysqladmin", "-phunter2", "ping"], "timeout": 2.0}),
            "until exec mysqladmin succeeds (at most 60 s)",
        ),
        (Check("log", {"pattern": "hunter2", "every": 30.0}), "until log every 30s succeeds (at most 60 s)"),
        (
            Check("heartbeat", {"path": "/run/alive", "every": 30.0}),
            "until heartbeat /run/alive every 30s succeeds (at most 60 s)",
        ),
        (
            Check("grpc", {"service": "", "port": 50051}, start_period=30, hold=5),
            "until grpc 50051 succeeds (at most 90 s, then for 5 s)",
        ),
        (Check("route", {"left": ["mvd-a", "mvd-b"]}, 30), "until Kong stops using mvd-a, mvd-b (at most 30 s)"),
        (ON_EVERY_NODE, "until every node of Kong knows the route (at most 120 s)"),
        (Check(DRAINED, within=10), "until its connections are closed (at most 10 s)"),
    ],
)
def test_a_gate_is_shown_without_what_may_be_secret(check: Check, text: str) -> None:
    assert gate_text(check, summary) == text


def test_a_plan_has_a_line_for_each_step() -> None:
    old, new = (Resource("unit", f"mvd-a-web-{n}", "a", "web", {"state": "running"}) for n in "12")
    staged = new.with_spec(state="staged")
    check = Check("tcp", {"port": 80})
    steps = (Change(None, staged), Gate(new, check), Change(staged, new), Gate(new, check, required=False))
    plan = Plan(steps, (Gate(old, Check(DRAINED, within=5)), Change(old, None)))
    assert [" ".join(line.split()) for line in step_lines(as_json(plan, summary))] == [
        "+ unit mvd-a-web-2",
        "? wait mvd-a-web-2 until tcp 80 succeeds (at most 60 s)",
        "~ unit mvd-a-web-2 staged",
        "? wait mvd-a-web-2 until tcp 80 succeeds (at most 60 s); continue in any case",
        "? wait mvd-a-web-1 until its connections are closed (at most 5 s)",
        "- unit mvd-a-web-1",
    ]


def test_a_changed_route_names_its_entities() -> None:
    before = {
        "routes": {"1": {"name": "mvd.shop.web", "paths": ["/shop"]}},
        "plugins": {"2": {"name": "cors"}, "3": {"name": "jwt", "enabled": True}},
    }
    after = {
        "routes": {"1": {"name": "mvd.shop.web", "paths": ["/store"]}},
        "plugins": {"3": {"name": "jwt", "enabled": False}, "4": {"name": "key-auth"}},
    }
    was, to = (Resource("route", "shop.web", "shop", "web", {"entities": it, "targets": []}) for it in (before, after))
    [line] = step_lines(as_json(Plan((Change(was, to),)), summary))
    assert " ".join(line.split()) == (
        "~ route shop.web plugin cors removed, plugin jwt changed: enabled, plugin key-auth added, "
        "route mvd.shop.web changed: paths"
    )
