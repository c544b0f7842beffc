"""What Kong could not tell from what others have in it: names, keys, and the requests that a route takes.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.kong.entities import OWNED, UNIQUE, Entity, as_json, clash, tagged
from gitops_mvd.manifest.matches import combinations

_NAMES = {"name", "prefix"}
_REPEATABLE = {"certificates"}  # Kong takes the same one twice


def refuse_taken(ours: Iterable[Entity], others: Iterable[Entity]) -> None:
    """Raises StepFailed where one of ours has what Kong lets exist only once, and another has it already."""
    taken = {(other.type, what, value): other for other in others for what, value in _once(other)}
    for entity in ours if taken else ():
        for what, value in _once(entity):
            other = taken.get((entity.type, what, value))
            if other and other.id != entity.id:
                raise _taken(entity, what, other)


def in_the_way(new: Iterable[Entity], gone: Iterable[Entity]) -> list[Entity]:
    """Those that go, and have what a new one of another name gets: a consumer's `custom_id`.

    One of the same name is no successor but the same, which is to be adopted and not deleted.
    """
    first: set[tuple[str, str, str]] = set()
    further: set[tuple[str, str, str]] = set()
    for entity in new:
        once = [(entity.type, what, value) for what, value in _once(entity)]
        first.update(once[:1])
        further.update(once[1:])
    theirs = ((entity, {(entity.type, what, value) for what, value in _once(entity)}) for entity in gone)
    return [entity for entity, once in theirs if once & further and not once & first]


def refuse_rivals(routes: Iterable[Entity], others: Iterable[Entity]) -> None:
    """Raises StepFailed where a route of ours takes the very requests of another: Kong would choose by age."""
    theirs = {key: other for other in others for _, key in combinations(other.fields)}
    for route in routes if theirs else ():
        for what, key in combinations(route.fields):
            if other := theirs.get(key):
                raise _rival(route, what, other)


def _once(entity: Entity) -> Iterator[tuple[str, str]]:
    """Each field, or some together, that Kong lets exist only once, and what is in it."""
    for key in UNIQUE.get(entity.type, ("name",)) if entity.type not in _REPEATABLE else ():
        names = (key,) if isinstance(key, str) else key
        values = [entity.fields.get(name) for name in names]
        if len(names) > 1 or values[0] is not None:
            yield (
                " and ".join(names),
                as_json([value.get("id") if isinstance(value, dict) else value for value in values]),
            )


def _taken(entity: Entity, what: str, other: Entity) -> StepFailed:
    """Secrets are not told: what is taken is called by its field."""
    if what in _NAMES or (entity.type, what) == ("consumers", "username") or " and " in what:
        return clash(entity, other)
    hint = f"give it another {what}, or delete that one from Kong"
    return StepFailed(f"{entity} has the {what} of {other}, which is in Kong and not ours", hint)


def _rival(route: Entity, what: str, other: Entity) -> StepFailed:
    owner = ".".join(word for word in (tagged(route.tags, "app"), tagged(route.tags, "service")) if word)
    if OWNED in other.tags and (host := tagged(other.tags, "host")):
        whose, hint = f"that of the host {host}", "give one of them another path, host or method"
    else:
        whose, hint = "not ours", "`mvd adopt` it, delete it, or give ours another path or one condition more"
    return StepFailed(f"{what} of {owner} is that of the {other} in Kong too, which is {whose}", hint)
