"""A plan in words: for a terminal, a pull request and a status.  Never has a secret in it, as no `spec` has.  Pure.

First what people ask: what has changed, and what does it cost (`AppChange`).  Behind it the steps, a line for each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gitops_mvd.core import canary
from gitops_mvd.core.cost import NO_DOWNTIME, Cost, cost
from gitops_mvd.core.decide import Decision
from gitops_mvd.core.difference import ADDED, REMOVED, Difference, what_changed
from gitops_mvd.core.model import KEEP, OUTDATED, RUNNING, App, Change, Check, Gate, Json, Plan, Roles, Step
from gitops_mvd.core.rollout import DRAINED, ROUTE_PROOF

Summary = Callable[[Check], str]  # what is shown of a check behind the name of its probe, and never a secret

EDITED = "edited"
NOT_TOLD = {RUNNING, "active", "made"}  # what a state should be says nothing about a change


SEPARATOR = " · "
_BETWEEN = re.compile(rf"{SEPARATOR}|; ")
_CUT = re.compile(rf"{SEPARATOR}(\d+) more$")
FREE = Cost()


@dataclass(frozen=True, slots=True)
class AppChange:
    """What people read of the plan of an app, before any step.

    `remarks` are further lines about it, such as what a plan repairs.  The text is the same wherever it is shown: in a
    terminal, a pull request, a status and the history.
    """

    app: str
    differences: tuple[Difference, ...] = ()
    cost: Cost = FREE
    remarks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Is there anything to tell?"""
        return bool(self.differences or self.remarks)

    def lines(self) -> Iterator[str]:
        """`shop: up to 15 s down (fixed port 8080)`, then a line for each service, and the remarks."""
        yield f"{self.app}: {self.cost.text}".removesuffix(": ")
        for service, of in groupby(self.differences, lambda it: it.service):
            yield f"  {f'{service}: ' if service else ''}{SEPARATOR.join(it.text for it in of)}"
        yield from (f"  {remark}" for remark in self.remarks)

    def diff(self) -> Iterator[str]:
        """The lines of a diff, which forges show in red and green; what has no two values to show begins with `!`."""
        for it in self.differences:
            of = f"{it.service}: " if it.service else ""
            if it.was and it.to:
                yield from (f"- {of}{it.was}", f"+ {of}{it.to}")
            else:
                yield f"{it.sign if it.sign in (ADDED, REMOVED) else '!'} {of}{it.text}"
        yield from (f"! {remark}" for remark in self.remarks)

    def phrases(self) -> Iterator[tuple[str, str]]:
        """Each phrase, behind what it is about: the app, and a service of another name."""
        for it in self.differences:
            yield f"{self.app}/{it.service}" if it.service not in ("", self.app) else self.app, it.text
        yield from ((self.app, remark) for remark in self.remarks)

    def as_json(self) -> dict[str, Any]:
        """For programs: what has changed by service, the cost, and the lines as people read them."""
        changed = [{"service": it.service, "sign": it.sign, "what": it.text} for it in self.differences]
        price = {"text": self.cost.text, "seconds_down_at_most": self.cost.seconds}
        return {"changed": changed, "cost": price, "remarks": list(self.remarks), "lines": list(self.lines())}


def app_change(
    decision: Decision, roles: Roles, why: Mapping[str, str], together: Plan, beside: Iterable[str] = ()
) -> AppChange:
    """What people read of what was decided about an app; `why` tells why its services stop first.

    `together` is the plan of all apps that change with it, and `beside` are remarks of others about it, such as that it
    takes the place of another app.
    """
    goal = decision.goal or App(decision.app.name)
    if decision.suspended:
        found = what_changed(decision.app, decision.known.good, decision.known.before, roles)
        return AppChange(decision.app.name, found, FREE, (decision.suspended.text, *beside))
    if decision.failure and decision.failure.action == KEEP:
        found = what_changed(decision.app, decision.known.good, decision.known.before, roles)
        return AppChange(decision.app.name, found, FREE, (*beside,))
    if decision.failure:
        back = ("goes back to the version that last worked",) if decision.plan else ()
        return AppChange(decision.app.name, (), cost(decision.plan, goal, roles, (), why, together), back)
    found = what_changed(decision.app, decision.known.good, decision.known.before, roles)
    remarks = () if found else _repairs(decision.plan)
    price = cost(decision.plan, goal, roles, found, why, together)
    return AppChange(decision.app.name, found, price, (*remarks, *beside))


def in_short(changes: Iterable[AppChange], most: int) -> str:
    """The phrases in one line of at most so many characters: `web: image nginx:1.28 → 1.29 · env A changed`."""
    phrases = (phrase for change in changes for phrase in change.phrases())
    by_subject = groupby(phrases, lambda phrase: phrase[0])
    return cut("; ".join(f"{about}: {SEPARATOR.join(text for _, text in of)}" for about, of in by_subject), most)


def cut(line: str, most: int) -> str:
    """A line of phrases, cut behind one of them, with the number of those that do not fit."""
    if len(line) <= most:
        return line
    ends = [end.start() for end in _BETWEEN.finditer(line)]
    first = int(was_cut[1]) if (was_cut := _CUT.search(line)) else 1
    for left, end in enumerate(reversed(ends), first):
        if len(short := f"{line[:end]}{SEPARATOR}{left} more") <= most:
            return short
    return f"{line[: most - 1]}…"


def worst(changes: Iterable[AppChange]) -> str:
    """What several apps cost: the price of the one that is down for longest, with its name."""
    told = [change for change in changes if change.cost.text]
    if dear := max(told, key=lambda change: change.cost.seconds, default=None):
        if dear.cost.seconds:
            return f"{dear.app} {dear.cost.text}" if len(told) > 1 else dear.cost.text
        return dear.cost.text if len(told) == 1 else NO_DOWNTIME
    return ""


REPAIRED = {"create": "made again", "update": "put right", "delete": "left over, and removed"}


def _repairs(plan: Plan) -> Iterator[str]:
    """What a plan changes that nobody has changed in the repository."""
    steps = [(it.resource.service or it.resource.name, it) for it in plan if isinstance(it, Change)]
    for about, of in groupby(sorted(steps, key=lambda it: it[0]), lambda it: it[0]):
        done = dict.fromkeys(f"{step.resource.kind} {_repaired(step)}" for _, step in of)
        yield f"{about}: {SEPARATOR.join(done)}"


def _repaired(change: Change) -> str:
    is_outdated = change.was is not None and change.was.spec.get("state") == OUTDATED
    return "written anew, without a restart" if is_outdated else REPAIRED[change.verb]


# ---- the steps -------------------------------------------------------------------------------------------------------


def as_json(plan: Plan, summary: Summary) -> list[dict[str, str]]:
    """The plan for programs: a list of all its steps."""
    return [
        {
            "do": "wait" if isinstance(step, Gate) else step.verb,
            "kind": step.resource.kind,
            "name": step.resource.name,
            "what": step_text(step, summary),
        }
        for step in plan
    ]


def gate_text(check: Check, summary: Summary) -> str:
    """What a gate waits for, how often it must be seen, and how long that may take."""
    if check.probe == DRAINED:
        return f"until its connections are closed (at most {check.within:g} s)"
    if check.probe == canary.PROBE:
        return _canary_text(check)
    if check.probe == canary.TURN:
        return "until no other host that shares this Kong judges a version of it"
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


def _canary_text(check: Check) -> str:
    judge = canary.Judge(**check.spec["judge"])
    return (
        f"until the new version has had {check.spec['share']} % of the requests for {check.hold:g} s, with at most "
        f"{100 * judge.errors:g} % more errors than the old one, and {judge.latency:g} times its latency"
    )


def _route_condition(spec: Json) -> str:
    if spec.get("everywhere"):
        return "until every node of Kong knows the route"
    return f"until Kong stops using {', '.join(spec['left'])}" if spec.get("left") else "until Kong uses it"


def step_text(step: Step, summary: Summary) -> str:
    """What a change changes, or what a gate waits for."""
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
    if key == "counted":
        return "Kong tells this daemon of its requests"
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
    """Its name, and its weight if that is not the usual one."""
    weight = f" (weight {target['weight']})" if "weight" in target else ""
    return f"{target['instance'] or target['address']}{weight}"
