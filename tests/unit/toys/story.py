"""A process to whose probes the toy belongs from the start; it prints as JSON what became of it in every room.

`python -m tests.unit.toys.story`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gitops_mvd import probes

probes.__path__.append(str(Path(__file__).with_name("probes")))

from gitops_mvd.core.errors import Unhealthy  # noqa: E402
from gitops_mvd.core.model import Check, HostFacts, Plan  # noqa: E402
from gitops_mvd.core.plan_text import as_json  # noqa: E402
from gitops_mvd.host.monitor import Monitor  # noqa: E402
from gitops_mvd.manifest import load, validate  # noqa: E402
from gitops_mvd.manifest.explain import explain  # noqa: E402
from gitops_mvd.manifest.health import HEALTH_KEYS  # noqa: E402
from tests.unit.memory_tree import MemoryTree  # noqa: E402
from tests.unit.test_docs_manifest import rows  # noqa: E402
from tests.unit.test_gates import at_a_gate, up  # noqa: E402


def manifest(health: str, more: str = "") -> MemoryTree:
    text = f"services: {{web: {{image: a, x-mvd: {{health: {health}}}{more}}}}}"
    return MemoryTree({"apps/demo/compose.yaml": text})


def mistakes(health: str, more: str = "") -> list[str]:
    return [problem.message for problem in validate(manifest(health, more))]


def at_gate(check: Check, pid: int) -> str:
    gates, gate, _ = at_a_gate(lambda at: up(pid=pid), check)
    try:
        gates.wait([gate])
    except Unhealthy as error:
        return str(error)
    return "passed"


def story() -> Mapping[str, object]:
    [app] = load(manifest("{unlucky: 13, lowest: 1, within: 9s}"), HostFacts("h1"))[0]
    [service] = app.services
    gates, gate, _ = at_a_gate(lambda at: up(), service.check)
    instance = replace(up(pid=13), app="demo")
    watch = Monitor(gates.ask_once, lambda name: instance, lambda reason: None)
    watch.follow([(instance, service)])
    watch.ask_all()
    return {
        "check": [service.check.probe, service.check.spec, service.check.within],
        "mistakes": {
            "value": mistakes("{unlucky: 100}"),
            "option": mistakes("{tcp: 1, lowest: 1}"),
            "network": mistakes("{unlucky: 13}", ", network_mode: none"),
            "objection": mistakes("{unlucky: 13}", ", user: '13'"),
        },
        "explained": explain(app)["web"]["gate"],
        "plan": as_json(Plan((gate,)), probes.summary),
        "gate": [at_gate(service.check, 12), at_gate(service.check, 13)],
        "monitored": probes.is_monitored(service.check),
        "monitor": watch.verdict(instance),
        "manual": rows(HEALTH_KEYS).splitlines(),
    }


if __name__ == "__main__":
    json.dump(story(), sys.stdout)
