"""A report as JSON, as the history keeps it.  Pure."""

from __future__ import annotations

import dataclasses
from typing import Any

from gitops_mvd.core.model import (
    Change,
    Check,
    Gate,
    Health,
    Json,
    Operation,
    Outcome,
    Plan,
    Report,
    Resource,
    Revision,
    Step,
    Sync,
)
from gitops_mvd.core.redact import without_secrets
from gitops_mvd.core.suspension import Suspension


def to_json(report: Report) -> Json:
    """All of a report but the payloads of its resources, and the secrets in what probes are given."""
    outcomes = [
        {
            **{key: getattr(outcome, key) for key in ("app", "sync", "health", "operation", "why")},
            "did": {half: [_step_to_json(s) for s in getattr(outcome.did, half)] for half in ("change", "clean")},
            **({"removed": True} if outcome.removed else {}),
            **({"changed": outcome.changed} if outcome.changed else {}),
            **({"suspended": outcome.suspended.as_json()} if outcome.suspended else {}),
        }
        for outcome in report.outcomes
    ]
    return {"host": report.host, "revision": report.revision.to_json(), "outcomes": outcomes}


def from_json(value: Json) -> Report:
    """The report that `to_json` was given."""
    outcomes = []
    for outcome in value["outcomes"]:
        did = Plan(**{half: tuple(map(_step_from_json, steps)) for half, steps in outcome["did"].items()})
        suspended = Suspension.from_json(found) if (found := outcome.get("suspended")) else None
        outcomes.append(Outcome(**{**outcome, **vocabularies(outcome), "did": did, "suspended": suspended}))
    return Report(value["host"], Revision(**value["revision"]), tuple(outcomes))


def vocabularies(value: Json) -> dict[str, Any]:
    """The three words of an outcome, from JSON."""
    return {
        "sync": Sync(value["sync"]),
        "health": Health(value["health"]),
        "operation": Operation(value["operation"]),
    }


def _step_to_json(step: Step) -> Json:
    if isinstance(step, Gate):
        return {
            "on": _resource_to_json(step.resource),
            "check": {**dataclasses.asdict(step.check), "spec": without_secrets(step.check.spec)},
        }
    return {"was": _resource_to_json(step.was), "to": _resource_to_json(step.to)}


def _resource_to_json(resource: Resource | None) -> Json | None:
    return {k: getattr(resource, k) for k in ("kind", "name", "app", "service", "spec")} if resource else None


def _step_from_json(value: Json) -> Step:
    if "on" in value:
        return Gate(Resource(**value["on"]), Check(**value["check"]))
    return Change(*(Resource(**value[side]) if value[side] else None for side in ("was", "to")))
