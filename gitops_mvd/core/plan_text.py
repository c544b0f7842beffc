"""A plan in words: for a terminal, a pull request and a status.  Never has a secret in it, as no `spec` has.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gitops_mvd.core.model import OUTDATED, RUNNING, Change, Check, Gate, Json, Plan, Resource, Role, Roles, Step
from gitops_mvd.core.rollout import DRAINED, ROUTE_PROOF

Summary = Callable[[Check], str]  # what is shown of a check behind the name of its probe, and never a secret

SIGNS = {"create": "+", "update": "~", "delete": "-"}
EDITED = "edited"
NOT_TOLD = {RUNNING, "active", "made"}  # what a state should be says nothing about a change


def lines(plan: Plan, summary: Summary) -> Iterator[str]:
    """The plan for people, a step a line."""
    for step in plan:
        resource = _resource(step)
        sign, kind = ("?", "wait") if isinstance(step, Gate) else (SIGNS[step.verb], resource.kind)
        yield f"{sign} {kind:<8} {resource.name:<40} {_step_text(step, summary)}".rstrip()


def as_json(plan: Plan, summary: Summary) -> list[dict[str, object]]:
    """The plan for programs: a list of steps."""
    return [
        {
            "do": "wait" if isinstance(step, Gate) else step.verb,
            "kind": _resource(step).kind,
            "name": _resource(step).name,
            "what": _step_text(step, summary),
        }
        for step in plan
    ]


def service_verbs(plan: Plan, roles: Roles) -> dict[str, str]:
    """What happens to each service, and to each resource of no service: `create`, `change` or `remove`.

    An instance is named after its content: a service that changes is one that gets new instances and loses old ones.
    """
    verbs: dict[str, set[str]] = {}
    for step in plan:
        if isinstance(step, Change) and (step.resource.service or roles[step.resource.kind] is not Role.SUPPORT):
            verbs.setdefault(step.resource.service or step.resource.name, set()).add(step.verb)
    only = {frozenset({"create"}): "create", frozenset({"delete"}): "remove"}
    return {name: only.get(frozenset(done), "change") for name, done in verbs.items()}


def gate_text(check: Check, summary: Summary) -> str:
    """What a gate waits for, how often it must be seen, and how long that may take."""
    if check.probe == DRAINED:
        return f"until its connections are closed (at most {check.within:g} s)"
    if check.probe == ROUTE_PROOF:
        condition = _route_condition(check.spec)
    else:
        condition = f"until {f'{check.probe} {summary(check)}'.strip()} succeeds"
    limits = [
        *([f"{check.successes} times"] if check.successes > 1 else []),
        f"at most {check.start_period + check.within:g} s",
        *([f"then for {check.hold:g} s"] if check.hold else []),
    ]
    return f"{condition} ({', '.join(limits)})"


def _route_condition(spec: Json) -> str:
    if spec.get("everywhere"):
        return "until every node of Kong knows the route"
    return f"until Kong stops using {', '.join(spec['left'])}" if spec.get("left") else "until Kong uses it"


def _resource(step: Step) -> Resource:
    return step.on if isinstance(step, Gate) else step.resource


def _step_text(step: Step, summary: Summary) -> str:
    if isinstance(step, Change):
        return _difference(step)
    return gate_text(step.check, summary) + ("" if step.required else "; continue in any case")


def _difference(change: Change) -> str:
    """What an update changes, and to which instances a route leads."""
    if change.to and "targets" in change.to.spec:
        before, after = (
            [_instance(t) for t in side.spec["targets"]] if side else [] for side in (change.was, change.to)
        )
        if before != after:
            return f"{', '.join(before)} → {', '.join(after)}" if before else f"→ {', '.join(after)}"
    if not (change.was and change.to):
        return ""
    was, to = change.was.spec, change.to.spec
    return ", ".join(_field_text(key, was.get(key), to[key]) for key in to if was.get(key) != to[key])


def _field_text(key: str, was: object, to: object) -> str:
    if was == OUTDATED:
        return "written by an older version: its text is replaced, and its container goes on"
    if was == EDITED or (key == "state" and was not in NOT_TOLD):
        return str(was)
    if isinstance(was, Mapping) and isinstance(to, Mapping):  # type -> id -> field -> value, as a route's entities
        return ", ".join(_entity_changes(was, to)) or key
    return key


def _entity_changes(was: Mapping[str, Mapping[str, Json]], to: Mapping[str, Mapping[str, Json]]) -> Iterator[str]:
    """`plugin key-auth added`, `route changed: paths`."""
    for type in sorted(was.keys() | to.keys()):
        before, after = was.get(type, {}), to.get(type, {})
        for id in sorted(before.keys() | after.keys()):
            if before.get(id) == after.get(id):
                continue
            old, new = before.get(id), after.get(id)
            name = f"{type.removesuffix('s')} {(new or old or {}).get('name', '')}".strip()
            if old is None or new is None:
                yield f"{name} {'added' if old is None else 'removed'}"
            else:
                fields = sorted(field for field in old.keys() | new.keys() if old.get(field) != new.get(field))
                yield f"{name} changed: {', '.join(fields)}"


def _instance(target: Json) -> str:
    return str(target["instance"]) or str(target["address"])
