"""What one host has to change of one service, or of the folder `kong/`, in a Kong that several hosts share.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from gitops_mvd.kong.admin import MAX_CONNECTIONS
from gitops_mvd.kong.compare import declared_fields, is_same
from gitops_mvd.kong.counted import is_counting
from gitops_mvd.kong.declare import service_name
from gitops_mvd.kong.entities import Entity, Key, Owner, is_instance_target, tag_value
from gitops_mvd.kong.shared.entities import OwnerEntities
from gitops_mvd.kong.shared.precedence import (
    LAST_APPLIED_TAG,
    LastApplied,
    Precedence,
    digest_of,
    last_applied_in,
    stamped,
    upstream_named,
    without_last_applied,
)


class Changes:
    """What is put, the upstream and this host's claim to it first, and what is removed after that.

    A host that is to be told of the requests has its claim already: its targets change once it has its turn.

    `last_applied` is what the upstream says afterwards.
    """

    def __init__(self, owner: Owner, wanted: OwnerEntities, found: OwnerEntities, precedence: Precedence) -> None:
        name = service_name(owner)
        upstream = upstream_named(name, wanted.shared.values())
        assert upstream, "whatever has targets has an upstream"
        self.upstream = upstream.id
        self.last_applied = LastApplied.parse(tag_value(upstream.tags, LAST_APPLIED_TAG)) or precedence.applied(
            digest_of(declared_fields(wanted.shared.values())), held=False
        )
        self._is_counted = wanted.is_counted
        put, removed = self._of_shared(name, wanted.shared, found.shared, precedence)
        own = [entity for key, entity in wanted.own.items() if not is_same(entity, found.own.get(key))]
        self.put = sorted([*put, *own], key=self._place)
        removed = [*(entity for key, entity in found.own.items() if key not in wanted.own), *removed]
        self.removed = sorted(removed, key=lambda entity: entity.rank, reverse=True)
        before = found.shared.keys() | found.own.keys()
        self.added = [entity for entity in self.put if entity.key not in before]

    def __bool__(self) -> bool:
        return bool(self.put or self.removed)

    def _place(self, entity: Entity) -> tuple[bool, bool, int, bool]:
        is_late = is_instance_target(entity) is self._is_counted
        return entity.id != self.upstream, is_late, entity.rank, is_counting(entity.fields)

    def put_together(self) -> Iterator[list[Entity]]:
        """What is put, in parts that are written side by side: no more than Kong is asked for at a time.

        So another host that changes the same meanwhile is seen after a few writes.
        """
        for _, of_a_place in itertools.groupby(self.put, self._place):
            while together := list(itertools.islice(of_a_place, MAX_CONNECTIONS)):
                yield together

    def _of_shared(
        self, name: str, wanted: Mapping[Key, Entity], found: Mapping[Key, Entity], precedence: Precedence
    ) -> tuple[list[Entity], list[Entity]]:
        """What is put and removed of what all hosts share: nothing if another host decides."""
        removed = [entity for key, entity in found.items() if key not in wanted]
        is_equal = not removed and all(
            key in found and is_same(without_last_applied(entity), without_last_applied(found[key]))
            for key, entity in wanted.items()
        )
        by_this_host, in_kong = self.last_applied, last_applied_in(found.values(), name)
        is_left = is_equal or precedence.yields(by_this_host, in_kong, name.removeprefix("mvd."))
        if in_kong and (is_left or in_kong.digest == by_this_host.digest):
            self.last_applied = in_kong  # if Kong has something else than that host applied, it is restored
        if is_left:
            return [], []
        put = stamped(wanted.values(), name, self.last_applied)
        return [entity for entity in put if not is_same(entity, found.get(entity.key))], removed
