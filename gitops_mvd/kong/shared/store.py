"""What a Kong that several hosts share holds, as one of them sees it, and how that host changes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence, Set

from gitops_mvd.core.errors import OnItsWay, StepFailed, Unavailable
from gitops_mvd.kong import database
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.clashes import refuse_changed_ids
from gitops_mvd.kong.counted import is_counting
from gitops_mvd.kong.database import RESCAN_EVERY
from gitops_mvd.kong.declare import service_name
from gitops_mvd.kong.entities import (
    LISTED,
    MANAGED_TAG,
    Entity,
    Fields,
    Owner,
    Owners,
    is_instance_target,
    is_managed,
    tag_value,
    tags_of,
)
from gitops_mvd.kong.shared.changes import Changes
from gitops_mvd.kong.shared.entities import OwnerEntities, by_owner, index_tag, is_shared
from gitops_mvd.kong.shared.judging import Turn, turn_of
from gitops_mvd.kong.shared.precedence import LAST_APPLIED_TAG, LastApplied, Precedence, last_applied_in
from gitops_mvd.kong.together import Together

LEAVING = "leaving"  # the tag of a host's last target, which is about to be deleted
MAX_ROUNDS = 5


class _ChangedByOtherHost(Exception):
    """Another host has changed what this one is about to write."""


class Store(database.Store):
    """What a Kong with a database holds, as one of the hosts that share it sees it."""

    def __init__(self, admin: Admin, written: MutableMapping[str, float], precedence: Precedence) -> None:
        super().__init__(admin, written)
        self._find_together = Together[str, Mapping[Owner, OwnerEntities]]()
        self._precedence = precedence
        self._shared = precedence.shared
        # Ids of this host's targets that are at none of these upstreams: they were searched for already.
        self._not_found: tuple[Set[str], Sequence[str]] = (frozenset(), ())
        self._written_to: set[str] = set()  # upstreams whose targets this host has changed since they were read
        self._shared_of: Mapping[Owner, tuple[Entity, ...]] = {}

    # ---- what there is -----------------------------------------------------------------------------------------------

    def observe(self, host: str) -> list[Entity]:
        """The host's targets and what is shared of their services, in the order of creation.

        The very same list while they stay the same.  A call each for services, routes, upstreams, the two indexes, and
        every type in the index of what is shared.
        """
        found = self._find(host)
        of_host = (it for owner, it in found.items() if it.own or self._is_interrupted(host, owner, it))
        entities = [entity for it in of_host for entity in (*it.shared.values(), *it.own.values())]
        with self._lock:
            return self._in_order(entities)

    def shared_entities(self, owner: Owner) -> tuple[Entity, ...]:
        """What is shared of a service, as it was read last."""
        return self._shared_of.get(owner, ())

    def _find(self, host: str) -> Mapping[Owner, OwnerEntities]:
        """What is shared, and the host's targets: read once for all threads that ask before it begins."""
        return self._find_together(host, lambda hosts: self._read_shared(hosts[0]))

    def _read_shared(self, host: str) -> Mapping[Owner, OwnerEntities]:
        index = self._index(index_tag(self._shared))
        types = [*LISTED, *sorted(index.keys() - {"targets"})]
        shared = [entity for type in types for entity in self._entities(type, self._tag_of(type), self._is_looked_at)]
        target_ids = self._index(f"index:{host}").get("targets", set()) | index.get("targets", set())
        upstreams = [entity.id for entity in shared if entity.type == "upstreams"]
        with self._lock:
            targets = self._find_targets(host, upstreams, target_ids)
        found = by_owner([*shared, *targets], host)
        self._shared_of = {owner: tuple(it.shared.values()) for owner, it in found.items()}
        return found

    def _tag_of(self, type: str) -> str:
        """The tag of what is looked at of a type: the index has the plugins by which hosts judge, too."""
        return f"shared:{self._shared}" if type in LISTED else index_tag(self._shared)

    def _is_looked_at(self, fields: Fields) -> bool:
        return self._is_shared(fields) or is_counting(fields)

    def _is_shared(self, fields: Fields) -> bool:
        return is_shared(fields, self._shared)

    def _is_interrupted(self, host: str, owner: Owner, found: OwnerEntities) -> bool:
        """Did this host stop between the upstream, which it creates first, and its claim?  No other host cleans up."""
        last_applied = last_applied_in(found.shared.values(), service_name(owner))
        if not last_applied or last_applied.host != host or len(found.shared) > 1:
            return False
        return not self._is_claimed(next(iter(found.shared.values())).id, host)

    def _is_claimed(self, upstream: str, host: str) -> bool:
        """Has another host a target there that it is not about to delete?"""
        targets = (tags_of(fields) for fields in self._admin.entries(f"/upstreams/{upstream}/targets"))
        return any(
            MANAGED_TAG in tags and tag_value(tags, "instance") and f"host:{host}" not in tags and LEAVING not in tags
            for tags in targets
        )

    def _find_targets(self, host: str, upstreams: Sequence[str], ids: set[str]) -> list[Entity]:
        """The targets with these ids, each upstream being read until all are found."""
        for upstream in self._targets.keys() - set(upstreams):
            del self._targets[upstream]
        known = {upstream: {target.id for target in targets} for upstream, targets in self._targets.items()}
        stale = {upstream for upstream, targets in known.items() if not targets <= ids} | self._written_to
        missing = ids - {id for upstream, targets in known.items() if upstream not in stale for id in targets}
        self._written_to = set()
        if not stale and self._not_found == (missing, upstreams):
            missing = set()
        for upstream in sorted(upstreams, key=lambda upstream: (upstream not in stale, upstream in known)):
            if upstream in stale or missing:
                missing -= {target.id for target in self._read_targets(host, upstream)}
        if missing:
            self._not_found = frozenset(missing), upstreams
        elif not stale and not next(self._observations) % RESCAN_EVERY and self._targets:
            self._read_targets(host, next(iter(self._targets)))
        return [target for upstream in upstreams for target in self._targets.get(upstream, ())]

    def _read_targets(self, host: str, upstream: str) -> list[Entity]:
        entries = self._admin.entries(f"/upstreams/{upstream}/targets")
        managed = [fields for fields in entries if is_managed(fields, host) or self._is_shared(fields)]
        found = [Entity("targets", fields, from_admin_api=True) for fields in managed]
        self._targets.pop(upstream, None)
        if found:
            self._targets[upstream] = found
        return found

    # ---- changing it -------------------------------------------------------------------------------------------------

    def apply(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Make this host's targets of these owners those in `entities`, and what is shared as precedence has it.

        Observes again until it finds it so.  Raises Unavailable if other hosts never let it.
        """
        for _ in range(MAX_ROUNDS):
            if not self._apply(host, owners, entities):
                return
        raise Unavailable("other hosts change the same entities in Kong all the time", "try again later")

    def _apply(self, host: str, owners: Owners, entities: Sequence[Entity]) -> bool:
        """One round; was there anything to change?"""
        found = self._find(host)
        wanted = by_owner(entities, host)
        self._end_turns([owner for owner, it in wanted.items() if it.is_counted], found)
        changes_by_owner = self._changes(wanted, found)
        leaving = [
            owner
            for owner, it in found.items()
            if owner not in wanted
            and (owners is None or owner in owners)
            and (it.own or self._is_interrupted(host, owner, it))
        ]
        self._refuse(host, changes_by_owner)
        try:
            for changes in changes_by_owner:
                with contextlib.suppress(_ChangedByOtherHost):
                    self._carry_out(changes)
            for owner in leaving:
                self._leave(host, found[owner])
        finally:
            left = (target for owner in leaving for target in found[owner].targets)
            with self._lock:
                self._written_to |= {changes.upstream for changes in changes_by_owner}
                self._written_to |= {target.reference("upstream") for target in left}
        return bool(changes_by_owner or leaving)

    def prepare(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Raise what `apply` would, without a change."""
        self._refuse(host, self._changes(by_owner(entities, host), self._find(host)))

    def _changes(
        self, wanted: Mapping[Owner, OwnerEntities], found: Mapping[Owner, OwnerEntities]
    ) -> Sequence[Changes]:
        every = (
            Changes(owner, it, found.get(owner, OwnerEntities()), self._precedence)
            for owner, it in sorted(wanted.items())  # so that no two hosts have what the other one waits for
        )
        return [changes for changes in every if changes]

    def _refuse(self, host: str, changes_by_owner: Sequence[Changes]) -> None:
        """Raise StepFailed for what Kong would reject, and for a clash."""
        for changes in changes_by_owner:
            refuse_changed_ids(changes.added, changes.removed)
            self._check(changes.put)
        for changes in changes_by_owner:
            put, added = ([it for it in some if not is_counting(it.fields)] for some in (changes.put, changes.added))
            self._refuse_clashes(host, put, added, changes.removed, {})

    def _may_replace(self, fields: Fields, host: str) -> bool:
        return self._is_shared(fields)

    def _carry_out(self, changes: Changes) -> None:
        for number, together in enumerate(changes.put_together()):
            if number and not is_instance_target(together[0]):
                self._require_unchanged(changes)
            try:
                if is_counting(together[0].fields):
                    self._take_turn(together[0])
                else:
                    self._put_together(together, changes.added)
            except StepFailed:  # perhaps because another host deleted what they refer to
                self._require_unchanged(changes)
                raise
        self._wait_until_balanced(changes.added, changes.removed)
        for entity in changes.removed:
            if not is_instance_target(entity):
                self._require_unchanged(changes)
            self._delete(entity)

    def _require_unchanged(self, changes: Changes) -> None:
        """Raise _ChangedByOtherHost if another host has applied something else, or deleted what is shared."""
        upstream = self._admin.get(f"/upstreams/{changes.upstream}")
        in_kong = LastApplied.parse(tag_value(tags_of(upstream or {}), LAST_APPLIED_TAG))
        if upstream is None or (in_kong and in_kong.digest != changes.last_applied.digest):
            raise _ChangedByOtherHost

    # ---- turns at canaries -------------------------------------------------------------------------------------------

    def turn_of_other(self, host: str, owner: Owner) -> Turn | None:
        """The turn of another host at the canary of a service; None if there is none, or if its time is over."""
        turn = next((it for it in self._turns(service_name(owner)) if it.host != host), None)
        return None if turn and turn.is_over(self._admin.time()) else turn

    def _turns(self, service: str) -> Iterator[Turn]:
        """Of one host at most: that whose plugin a service, given by name or id, has."""
        plugins = self._admin.entries(f"/services/{service}/plugins")
        return (turn_of(Entity("plugins", it, from_admin_api=True)) for it in plugins if is_counting(it))

    def _end_turns(self, owners: Iterable[Owner], found: Mapping[Owner, OwnerEntities]) -> None:
        """End turns of other hosts at these services.  Raises OnItsWay if the time of one is not over."""
        turns = [turn_of(it.judging) for owner in owners if (it := found.get(owner)) and it.judging]
        now = self._admin.time() if turns else 0.0
        if has_time := next((turn for turn in turns if not turn.is_over(now)), None):
            raise OnItsWay(str(has_time))
        for turn in turns:
            self._delete(turn.plugin)

    def _take_turn(self, plugin: Entity) -> None:
        """Raises OnItsWay if another host was first: Kong takes one plugin of a name for a service."""
        if self._put(plugin, is_new=True):
            return
        if turn := next(self._turns(plugin.reference("service")), None):
            raise OnItsWay(str(turn))
        self._refuse_clashes(tag_value(plugin.tags, "host"), [plugin], [plugin], [], {})
        raise OnItsWay(f"another host has judged {tag_value(plugin.tags, 'service')} until now")

    def _leave(self, host: str, found: OwnerEntities) -> None:
        """Delete the targets of this host and, if no other host has any, what is shared of the service.

        Its turn at a canary ends first.  The last target gets weight 0 and the tag `leaving`: Kong sends it no request,
        and no other host counts it, but whatever interrupts this, the next pass finds it and goes on.
        """
        if not found.own:
            self._delete(next(iter(found.shared.values())))
            return
        for entity in found.own.values():
            if is_counting(entity.fields):
                self._delete(entity)
        own = sorted(found.targets, key=lambda target: (LEAVING not in target.tags, target.id))
        if not own:
            return
        last, others = own[0], own[1:]
        if LEAVING not in last.tags:
            self._put(last.with_fields({**last.fields, "weight": 0, "tags": [*last.tags, LEAVING]}), is_new=False)
        for target in others:
            self._delete(target)
        upstream = last.reference("upstream")
        for entity in sorted(found.shared.values(), key=lambda it: (it.id != upstream, it.rank), reverse=True):
            if self._is_claimed(upstream, host):
                break
            self._delete(entity)
            if entity.id == upstream:
                return  # Kong deletes its targets with it
        self._delete(last)
