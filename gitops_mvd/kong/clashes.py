"""Clashes with other entities in Kong: names and keys that must be unique, and routes that match the same.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TypeAlias

from gitops_mvd.core.errors import NotNow, StepFailed
from gitops_mvd.core.matches import MatchKey, combinations
from gitops_mvd.kong.declare import has_given_id
from gitops_mvd.kong.entities import MANAGED_TAG, UNIQUE, Entity, Key, as_json, clash, tag_value

Taken: TypeAlias = Mapping[tuple[str, str, str], Entity]  # type, name of a field and its value -> which has it
Matched: TypeAlias = Mapping[MatchKey, Entity]
_NAMES = {"name", "prefix"}
_REPEATABLE = {"certificates"}  # Kong takes the same one twice


def taken_by(entities: Iterable[Entity]) -> Taken:
    """What these entities have that no other may have."""
    return {(entity.type, what, value): entity for entity in entities for what, value in _unique_values(entity)}


def refuse_taken(managed: Iterable[Entity], taken: Taken, replaced: Container[Key]) -> None:
    """Raises NotNow if a managed entity has what another one has already, which is not to be `replaced`."""
    for entity in managed if taken else ():
        for what, value in _unique_values(entity):
            other = taken.get((entity.type, what, value))
            if other and other.id != entity.id and other.key not in replaced:
                raise _taken(entity, what, other)


def to_delete_first(added: Iterable[Entity], removed: Iterable[Entity]) -> list[Entity]:
    """The removed entities with a unique value that an added one of another name gets: a consumer's `custom_id`.

    An entity of the same name is no successor but the same one, which is to be adopted and not deleted.
    """
    names: set[tuple[str, str, str]] = set()
    others: set[tuple[str, str, str]] = set()
    for entity in added:
        values = [(entity.type, what, value) for what, value in _unique_values(entity)]
        names.update(values[:1])
        others.update(values[1:])
    by_entity = ((entity, {(entity.type, what, value) for what, value in _unique_values(entity)}) for entity in removed)
    return [entity for entity, values in by_entity if values & others and not values & names]


def refuse_ids_of_others(added: Iterable[Entity], others: Mapping[Key, Entity]) -> None:
    """Raises NotNow for an entity that was given the id of another one, which it would replace."""
    for entity in added:
        if (other := others.get(entity.key)) and has_given_id(entity):
            hint = "`mvd adopt` takes it over; or give yours another id"
            raise NotNow(f"{entity} has the id {entity.id}, which the {other} in Kong has already", hint)


def refuse_changed_ids(added: Iterable[Entity], removed: Iterable[Entity]) -> None:
    """Raises StepFailed for an entity that would only get another id: Kong keeps that of an entity for ever."""
    there = {(one.type, name): one for one in removed for name in itertools.islice(_unique_values(one), 1)}
    for entity in added:
        for name in itertools.islice(_unique_values(entity), 1):
            if other := there.get((entity.type, name)):
                hint = f"write `id: {other.id}`, or remove it with one commit and add it with another"
                raise StepFailed(
                    f"{entity} has the id {other.id} in Kong, which cannot be changed to {entity.id}", hint
                )


def matched_by(routes: Iterable[Entity]) -> Matched:
    """What these routes match."""
    return {key: route for route in routes for _, key in combinations(route.fields)}


def refuse_rivals(routes: Iterable[Entity], matched: Matched, replaced: Container[Key]) -> None:
    """Raises NotNow if a managed route matches the same requests as another, which is not to be `replaced`.

    Kong would choose by age.
    """
    for route in routes if matched else ():
        for what, key in combinations(route.fields):
            if (other := matched.get(key)) and other.key not in replaced:
                raise _rival(route, what, other)


def _unique_values(entity: Entity) -> Iterator[tuple[str, str]]:
    """Each field, or several together, that must be unique, and the value."""
    for key in UNIQUE.get(entity.type, ("name",)) if entity.type not in _REPEATABLE else ():
        names = (key,) if isinstance(key, str) else key
        values = [entity.fields.get(name) for name in names]
        if len(names) > 1 or values[0] is not None:
            yield (
                " and ".join(names),
                as_json([value.get("id") if isinstance(value, dict) else value for value in values]),
            )


def _taken(entity: Entity, what: str, other: Entity) -> NotNow:
    """Names the field that is taken and not its value, which may be a secret."""
    if what in _NAMES or (entity.type, what) == ("consumers", "username") or " and " in what:
        return clash(entity, other)
    hint = f"give it another {what}, or delete that one from Kong"
    return NotNow(f"{entity} has the {what} of {other}, which is in Kong and not managed by gitops-mvd", hint)


def _rival(route: Entity, what: str, other: Entity) -> NotNow:
    owner = ".".join(filter(None, route.owner))
    if MANAGED_TAG in other.tags and (host := tag_value(other.tags, "host")):
        whose, hint = f"managed by the host {host}", "give one of them another path, host or method"
    else:
        whose = "not managed by gitops-mvd"
        hint = "`mvd adopt` it, delete it, or give your route another path or one more condition"
    return NotNow(f"{what} of {owner} is also matched by the {other} in Kong, which is {whose}", hint)
