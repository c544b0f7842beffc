"""Kong with a database: entity by entity, in the order in which they refer to each other."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import quote

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import digest
from gitops_mvd.core.route import USUAL_WEIGHT
from gitops_mvd.kong.admin import MAX_CONNECTIONS, PATHS, Admin, Page, worker_questions
from gitops_mvd.kong.clashes import (
    Taken,
    matched_by,
    refuse_changed_ids,
    refuse_ids_of_others,
    refuse_rivals,
    refuse_taken,
    taken_by,
    to_delete_first,
)
from gitops_mvd.kong.compare import is_same
from gitops_mvd.kong.declare import has_given_id
from gitops_mvd.kong.entities import (
    CLASH_HINT,
    LISTED,
    MANAGED_TAG,
    TYPES,
    UNIQUE,
    Entity,
    Fields,
    Key,
    Owners,
    holder_id,
    is_managed,
    is_of_our_making,
)
from gitops_mvd.kong.together import Together

MAX_LOOKUPS_BY_NAME = 5  # added entities of a type, beyond which all of that type are read
RESCAN_EVERY = 5  # observations, of which one reads the targets of an upstream that seem unchanged
BALANCED_WITHIN_SECONDS = 5.0  # the node that took a change uses a new target within 40 ms
SERVING = {"HEALTHY", "HEALTHCHECKS_OFF"}
TYPE_OF_TABLE = {"sm_vaults": "vaults"}  # for the types that a list of tags has under another name
SET_BY_KONG = {"created_at", "updated_at", "ws_id"}

IdsByType: TypeAlias = Mapping[str, set[str]]
Given = TypeVar("Given")
Made = TypeVar("Made")


class _OfType:
    """Entities of one type."""

    def __init__(self, entities: Sequence[Entity]) -> None:
        self.entities = entities

    @cached_property
    def taken(self) -> Taken:
        return taken_by(self.entities)

    @cached_property
    def by_key(self) -> Mapping[Key, Entity]:
        return {entity.key: entity for entity in self.entities}


class _Reading(NamedTuple):
    """What is read for a change: the managed entities and, if it is more than one of targets, all of `LISTED` types."""

    managed: Sequence[Entity]
    listed: Mapping[str, _OfType]


class Store:
    """What a Kong with a database holds.

    It is read at every observation, but converted only if Kong's answer is not the same to the byte.

    Kong lists targets by upstream only.  So their ids are listed by tag, and the targets of an upstream are read if the
    ids show that they changed.  For a weight changed by hand, the targets of one upstream after the other are read now
    and then (`RESCAN_EVERY`).
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `holder_id` of an entity -> when, by the monotonic clock
        self._read: dict[str, tuple[list[Page], object]] = {}  # path and tags -> pages, and what was made of them
        self._targets: OrderedDict[str, list[Entity]] = OrderedDict()  # upstream -> targets, last read last
        self._found: tuple[list[Entity], list[Entity]] = ([], [])  # in the order of the lists, and in that of creation
        self._put_since: dict[Key, Entity] = {}  # since that was found
        self._observations = itertools.count(1)
        self._calls = ThreadPoolExecutor(MAX_CONNECTIONS, "kong")
        self._observe_together = Together[str, _Reading]()
        self._read_together = Together[str, _Reading]()
        self._accepted: set[str] = set()  # what Kong has checked for `prepare`, and `apply` has not written yet
        self._lock = threading.Lock()

    def observe(self, host: str) -> list[Entity]:
        """All managed entities, in the order of creation: the very same list while they stay the same.

        A call each for services, routes, upstreams, the index of all other types, and every type in that index.
        """
        return self._with_others([entity for type in LISTED for entity in self._list(type, host)], host)

    def _read_for(self, host: str, entities: Iterable[Entity]) -> _Reading:
        """What is there before these are applied.

        All routes, services and upstreams are read if one of these is not as it was when Kong was looked at last.
        """
        before = {entity.key: entity for entity in self._found[1]} | self._put_since
        if all(entity.type not in LISTED or is_same(entity, before.get(entity.key)) for entity in entities):
            return self._observe_together(host, lambda hosts: _Reading(self.observe(hosts[0]), {}))
        return self._read_together(host, self._read_all)

    def _read_all(self, hosts: Sequence[str]) -> _Reading:
        """For the one host that all of them are."""
        listed = {type: self._all(type) for type in LISTED}
        every = itertools.chain(*(of_type.entities for of_type in listed.values()))
        found = [entity for entity in every if is_managed(entity.fields, hosts[0])]
        return _Reading(self._with_others(found, hosts[0]), listed)

    def _with_others(self, found: list[Entity], host: str) -> list[Entity]:
        """With the managed entities of all other types, in the order of creation."""
        index = self._index(f"index:{host}")
        found += [entity for type in sorted(index.keys() - {"targets"}) for entity in self._list(type, host)]
        upstreams = [entity.id for entity in found if entity.type == "upstreams"]
        with self._lock:
            found += self._observe_targets(host, upstreams, index.get("targets", set()))
            return self._in_order(found)

    def _in_order(self, found: list[Entity]) -> list[Entity]:
        """The entities in the order of creation: the very same list while they stay the same."""
        self._put_since = {}
        if found != self._found[0]:
            self._found = found, sorted(found, key=lambda entity: entity.rank)
        return self._found[1]

    def _list(self, type: str, host: str) -> list[Entity]:
        return self._entities(type, f"host:{host}", lambda fields: is_managed(fields, host))

    def _entities(self, type: str, tag: str, selects: Callable[[Fields], bool]) -> list[Entity]:
        """The selected ones among the entities of a type that have a tag."""

        def selected(entries: Iterable[Fields]) -> list[Entity]:
            return [Entity(type, fields, from_admin_api=True) for fields in entries if selects(fields)]

        return self._made_of(_path(type), selected, tags=f"{MANAGED_TAG},{tag}")

    def _index(self, tag: str) -> IdsByType:
        """The ids, by type, of all entities that have a tag."""
        return self._made_of(f"/tags/{_quoted(tag)}", _ids_by_type)

    def _made_of(self, path: str, make: Callable[[Iterable[Fields]], Made], **params: str) -> Made:
        """What `make` makes of the entries of a collection: the same object while Kong's answer is the same."""
        key = " ".join((path, *params.values()))
        before, made = self._read.get(key, ([], None))
        pages = self._admin.pages(path, before, params=params)
        if made is None or pages != before:
            made = make(entry for page in pages for entry in page.entries)
            self._read[key] = pages, made
        return cast(Made, made)

    def _observe_targets(self, host: str, upstreams: Sequence[str], ids: set[str]) -> list[Entity]:
        known = {upstream: {target.id for target in there} for upstream, there in self._targets.items()}
        for upstream in known.keys() - set(upstreams):
            del self._targets[upstream]
        stale = [upstream for upstream in upstreams if upstream not in known or not known[upstream] <= ids]
        if not stale and not ids <= set().union(*known.values()):
            stale = list(upstreams)  # somebody else added one, and Kong does not say to which upstream
        read = stale or ([] if next(self._observations) % RESCAN_EVERY else list(self._targets)[:1])
        for upstream, entries in zip(read, self._each(self._targets_of, read), strict=True):
            managed = [fields for fields in entries if is_managed(fields, host)]
            self._targets[upstream] = [Entity("targets", fields, from_admin_api=True) for fields in managed]
            self._targets.move_to_end(upstream)
        return [target for upstream in upstreams for target in self._targets[upstream]]

    def _targets_of(self, upstream: str) -> list[Fields]:
        return list(self._admin.entries(f"/upstreams/{upstream}/targets"))

    def _each(self, call: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """What comes of a call with each, several at a time.

        After an error none is begun any more; it is raised when those that were begun have ended.
        """
        if len(given) == 1:
            return [call(given[0])]
        calls = [self._calls.submit(call, one) for one in given]
        wait(calls, return_when=FIRST_EXCEPTION)
        for one in calls:
            one.cancel()
        wait(calls)
        return [one.result() for one in calls]  # they were begun in this order, so an error stands before what it ended

    def apply(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Make the managed entities of these owners exactly `entities`: additions first, deletions last."""
        reading = self._read_for(host, entities)
        put, added, removed = _difference(reading.managed, owners, entities)
        refuse_changed_ids(added, removed)
        self._check(put)
        first = to_delete_first(added, removed)
        self._refuse_clashes(host, put, added, first, reading.listed)
        self._accepted.difference_update(map(_digest, put))
        try:
            self._delete_all(first)
            for _, of_a_rank in itertools.groupby(put, lambda entity: entity.rank):
                self._put_together(list(of_a_rank), added)
            self._wait_until_balanced(added, removed)
            self._delete_all([entity for entity in removed if entity not in first])
        finally:
            with self._lock:
                for target in (entity for entity in (*put, *removed) if entity.type == "targets"):
                    self._targets.pop(target.reference("upstream"), None)

    def prepare(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Raise what `apply` would, without a change.  The targets are not looked at: they are of our own making."""
        reading = self._read_for(host, entities)
        declared = [entity for entity in entities if entity.type != "targets"]
        put, added, removed = _difference(reading.managed, owners, declared)
        refuse_changed_ids(added, removed)
        self._check(put)
        self._accepted.update(map(_digest, put))
        self._refuse_clashes(host, put, added, to_delete_first(added, removed), reading.listed)

    def _check(self, put: Sequence[Entity]) -> None:
        """Raises StepFailed with Kong's reason for the first entity that it would reject."""
        unknown = [it for it in put if not is_of_our_making(it) and _digest(it) not in self._accepted]
        self._each(self._admin.check, unknown)

    def all(self) -> list[Entity]:
        """All entities in this Kong, managed or not."""
        found = [
            Entity(type, fields, from_admin_api=True)
            for type in TYPES
            if type != "targets"
            for fields in self._admin.entries(_path(type))
        ]
        upstreams = [entity.id for entity in found if entity.type == "upstreams"]
        targets = itertools.chain(*self._each(self._targets_of, upstreams))
        return sorted(
            [*found, *(Entity("targets", fields, from_admin_api=True) for fields in targets)], key=lambda it: it.rank
        )

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of entities that are in Kong, one entity at a time, and nothing else of them."""
        for entity in entities:
            self._admin.check(entity)
        for entity in entities:
            body = {key: value for key, value in entity.fields.items() if key not in {"id", *SET_BY_KONG}}
            if not self._admin.write("PATCH", _path_to(entity), entity, body):
                raise StepFailed(f"{entity} is no longer in Kong, or clashes there with another entity", "try again")
            self._written[holder_id(entity)] = time.monotonic()
            if entity.type == "targets":
                with self._lock:
                    self._targets.pop(entity.reference("upstream"), None)

    def _put_together(self, entities: Sequence[Entity], added: Sequence[Entity]) -> None:
        """Write entities that do not refer to each other.

        One that clashes is tried again after the others: one of them may have let go of what it takes.
        """
        new = {entity.key for entity in added}
        while entities:
            done = self._each(lambda entity: self._put(entity, is_new=entity.key in new), entities)
            if not any(done):
                message = f"{entities[0]} clashes with an entity in Kong that is not managed by gitops-mvd"
                raise NotNow(message, CLASH_HINT)
            entities = [entity for entity, is_done in zip(entities, done, strict=True) if not is_done]

    def _delete_all(self, entities: Sequence[Entity]) -> None:
        """Delete them in the order of their ranks from the last, those of one rank side by side."""
        for _, of_a_rank in itertools.groupby(entities, lambda entity: entity.rank):
            self._each(self._delete, list(of_a_rank))

    def _refuse_clashes(
        self,
        host: str,
        put: Sequence[Entity],
        added: Sequence[Entity],
        removed: Sequence[Entity],
        listed: Mapping[str, _OfType],
    ) -> None:
        """Raises NotNow for what Kong would reject after others were written, or not at all: a rival route."""
        replaced = {entity.key for entity in (*put, *removed)}
        routes = [entity for entity in put if entity.type == "routes"]
        other_routes = (listed.get("routes") or self._all("routes")) if routes else _OfType([])
        for type in dict.fromkeys(entity.type for entity in added if entity.type != "targets"):
            of_type = [entity for entity in added if entity.type == type]
            others = other_routes if type == "routes" else listed.get(type) or self._others(type, of_type)
            refuse_ids_of_others(of_type, others.by_key)
            refuse_taken(of_type, others.taken, replaced)
        foreign = (route for route in other_routes.entities if not self._may_replace(route.fields, host))
        refuse_rivals(routes, matched_by(foreign), replaced)

    def _may_replace(self, fields: Fields, host: str) -> bool:
        """Is that an entity that this host may change or delete?"""
        return is_managed(fields, host)

    def _others(self, type: str, added: Sequence[Entity]) -> _OfType:
        """The entities in Kong that may clash: looked up by name if that is enough, else all of the type."""
        unique = UNIQUE.get(type, ("name",))
        keys = [key for key in unique if isinstance(key, tuple) or any(key in entity.fields for entity in added)]
        if keys not in (["name"], ["username"], ["prefix"]) or len(added) > MAX_LOOKUPS_BY_NAME:
            return self._all(type)
        names = [_quoted(str(entity.fields[str(keys[0])])) for entity in added]
        ids = [entity.id for entity in added if has_given_id(entity)]
        paths = [f"{_path(type)}/{it}" for it in (*names, *ids)]
        return _OfType([Entity(type, it, from_admin_api=True) for it in self._each(self._admin.get, paths) if it])

    def _all(self, type: str) -> _OfType:
        entries = self._admin.entries(_path(type))
        return _OfType([Entity(type, fields, from_admin_api=True) for fields in entries])

    def _put(self, entity: Entity, *, is_new: bool) -> bool:
        """Write one entity; False if it clashes with another."""
        if entity.from_admin_api and entity.type == "basicauth_credentials":
            raise StepFailed(f"{entity} cannot be restored: Kong shows only the hash of its password")
        body = {key: value for key, value in entity.fields.items() if key not in SET_BY_KONG}
        update = {key: value for key, value in body.items() if key != "id"}
        if entity.type == "targets":
            collection, _, _ = _path_to(entity).rpartition("/")
            ways = [("PATCH", _path_to(entity), update), ("POST", collection, body)]  # PUT creates no targets
            is_done = any(
                self._admin.write(method, path, entity, fields)
                for method, path, fields in (reversed(ways) if is_new else ways)
            )
        else:
            is_done = self._admin.write("PUT", _path_to(entity), entity, update)
        if is_done:
            self._written[holder_id(entity)] = time.monotonic()
            self._put_since[entity.key] = entity
        return is_done

    def _wait_until_balanced(self, added: Sequence[Entity], removed: Sequence[Entity]) -> None:
        """Wait until Kong balances over the added targets, before others are removed.  Raises Unavailable."""
        new = [it for it in added if it.type == "targets" and it.fields.get("weight", USUAL_WEIGHT)]
        losing = {entity.reference("upstream") for entity in removed if entity.type == "targets"}
        if not (upstreams := sorted({entity.reference("upstream") for entity in new} & losing)):
            return
        questions = worker_questions(self._admin.get("/") or {}) or 1
        end = time.monotonic() + BALANCED_WITHIN_SECONDS

        def wait_for(upstream: str) -> None:
            targets = {str(entity.fields["target"]) for entity in new if entity.reference("upstream") == upstream}
            asked = 0
            while asked < questions:
                asked += 1
                if missing := self._unused(upstream, targets):
                    if time.monotonic() > end:
                        shown = ", ".join(sorted(missing))
                        raise Unavailable(f"Kong does not use the target {shown} within {BALANCED_WITHIN_SECONDS:g} s")
                    asked = 0
                    time.sleep(0.02)

        self._each(wait_for, upstreams)

    def _unused(self, upstream: str, targets: Iterable[str]) -> set[str]:
        """Those of the targets over which some worker of Kong does not balance yet.

        A worker makes its balancer for an upstream at the first request that gets as far as balancing, with all targets
        that there are then.  Until then it tells no health of any target, and there is nothing to wait for.
        """
        rows = self._admin.entries_of_a_worker(f"/upstreams/{upstream}/health")
        health = {str(row["target"]): row["health"] for row in rows if "health" in row}
        return {target for target in targets if health.get(target) not in SERVING} if health else set()

    def _delete(self, entity: Entity) -> None:
        self._admin.delete(_path_to(entity))
        self._written[holder_id(entity)] = time.monotonic()


def _difference(
    found: Iterable[Entity], owners: Owners, entities: Sequence[Entity]
) -> tuple[list[Entity], list[Entity], list[Entity]]:
    """What has to be written, what of that is new, and what has to be deleted, of what these owners have."""
    there = {entity.key: entity for entity in found if owners is None or entity.owner in owners}
    wanted = {entity.key for entity in entities}
    put = [entity for entity in entities if not is_same(entity, there.get(entity.key))]
    removed = [entity for key, entity in reversed(there.items()) if key not in wanted]
    return put, [entity for entity in put if entity.key not in there], removed


def _digest(entity: Entity) -> str:
    """What tells entities that Kong checks alike."""
    return digest([entity.type, entity.fields])


def _ids_by_type(rows: Iterable[Fields]) -> IdsByType:
    """The ids of each type in a list of what has a tag."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        name = str(row.get("entity_name"))
        ids[TYPE_OF_TABLE.get(name, name)].add(str(row.get("entity_id")))
    return ids


def _path_to(entity: Entity) -> str:
    parent = f"/upstreams/{entity.reference('upstream')}" if entity.type == "targets" else ""
    return f"{parent}{_path(entity.type)}/{entity.id}"


def _path(type: str) -> str:
    return f"/{PATHS.get(type, type)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
