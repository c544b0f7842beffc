"""Kong with a database: entity by entity, in the order in which they refer to each other."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast
from urllib.parse import quote

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Json
from gitops_mvd.kong.admin import PATHS, Admin, Page
from gitops_mvd.kong.clashes import in_the_way, refuse_rivals, refuse_taken
from gitops_mvd.kong.compare import same
from gitops_mvd.kong.entities import CLASH_HINT, DEFAULT_WEIGHT, LISTED, OWNED, TYPES, UNIQUE, Entity, is_ours, part_of

CHECKS = 4  # at a time: they write nothing
FEW = 5  # new entities of a type, whose names are looked up one by one
TURN = 5  # at every fifth look, the targets of one upstream are read without need
BALANCED_WITHIN = 5.0  # s; the node that took a change uses a new target within 40 ms
SERVING = {"HEALTHY", "HEALTHCHECKS_OFF"}
TABLES = {"sm_vaults": "vaults"}  # what a list of tags calls by the name of its table
SET_BY_KONG = {"created_at", "updated_at", "ws_id"}

Made = TypeVar("Made")


class Store:
    """What a Kong with a database holds.

    It is read anew at every look, but made sense of anew only where Kong's answer is not the same to the byte.

    Kong lists no targets but those of one upstream.  So their ids are listed by tag, and an upstream's own are only
    read where the ids tell that they changed; and one upstream's in turn now and then, for a weight changed by hand.
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `part_of` an entity -> when, by the monotonic clock
        self._read: dict[str, tuple[list[Page], Any]] = {}  # path and tags -> what was read, and what was made of it
        self._targets: OrderedDict[str, list[Entity]] = OrderedDict()  # upstream -> targets, last read last
        self._found: tuple[list[Entity], list[Entity]] = ([], [])  # in the order of the lists, and in that of making
        self._looks = itertools.count(1)
        self._checks = ThreadPoolExecutor(CHECKS, "kong-check")
        self._lock = threading.Lock()

    def look(self, host: str) -> list[Entity]:
        """All entities of ours: the very same list while they stay the same.

        A call each for services, routes, upstreams, the index of all else, and every other type that it tells of.
        """
        found = [entity for type in LISTED for entity in self._list(type, host)]
        indexed = self._made_of(f"/tags/{_quoted(f'index:{host}')}", _by_type)
        found += [entity for type in sorted(indexed.keys() - {"targets"}) for entity in self._list(type, host)]
        upstreams = [entity.id for entity in found if entity.type == "upstreams"]
        with self._lock:
            found += self._look_at_targets(host, upstreams, indexed.get("targets", set()))
            if found != self._found[0]:
                self._found = found, sorted(found, key=lambda entity: entity.rank)
            return self._found[1]

    def _list(self, type: str, host: str) -> list[Entity]:
        def ours(entries: Iterable[Json]) -> list[Entity]:
            return [Entity(type, fields, kept=True) for fields in entries if is_ours(fields, host)]

        return self._made_of(_path(type), ours, tags=f"{OWNED},host:{host}")

    def _made_of(self, path: str, make: Callable[[Iterable[Json]], Made], **params: str) -> Made:
        key = " ".join((path, *params.values()))
        before, made = self._read.get(key, ([], None))
        pages = self._admin.pages(path, before, **params)
        if made is None or pages != before:
            made = make(entry for page in pages for entry in page.entries)
            self._read[key] = pages, made
        return cast(Made, made)

    def _look_at_targets(self, host: str, upstreams: Sequence[str], ids: set[str]) -> list[Entity]:
        known = {upstream: {target.id for target in there} for upstream, there in self._targets.items()}
        for upstream in known.keys() - set(upstreams):
            del self._targets[upstream]
        stale = [upstream for upstream in upstreams if upstream not in known or not known[upstream] <= ids]
        if not stale and not ids <= set().union(*known.values()):
            stale = list(upstreams)  # somebody else added one, and Kong does not tell where
        turn = [] if stale or next(self._looks) % TURN else list(self._targets)[:1]
        for upstream in (*stale, *turn):
            there = self._admin.entries(f"/upstreams/{upstream}/targets")
            self._targets[upstream] = [Entity("targets", one, kept=True) for one in there if is_ours(one, host)]
            self._targets.move_to_end(upstream)
        return [target for upstream in upstreams for target in self._targets[upstream]]

    def bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make ours that are meant be exactly `entities`: the new is made first, and the old deleted last."""
        found = {(entity.type, entity.id): entity for entity in self.look(host) if is_meant(entity)}
        wanted = {(entity.type, entity.id) for entity in entities}
        put = [entity for entity in entities if not same(entity, found.get((entity.type, entity.id)))]
        gone = [entity for key, entity in reversed(found.items()) if key not in wanted]
        new = [entity for entity in put if (entity.type, entity.id) not in found]
        self._check(put)
        first = in_the_way(new, gone)
        self._refuse_clashes(host, put, new, first)
        try:
            for entity in first:
                self._delete(entity)
            self._replace(put, new, gone)
        finally:
            with self._lock:
                for target in (entity for entity in (*put, *gone) if entity.type == "targets"):
                    self._targets.pop(target.fields["upstream"]["id"], None)

    def _check(self, put: Sequence[Entity]) -> None:
        """Raises StepFailed with what Kong says of the first that it would refuse."""
        for _ in self._checks.map(self._admin.check, put):
            pass

    def all(self) -> list[Entity]:
        """Everything that this Kong has, whosever it is."""
        found = [
            Entity(type, fields, kept=True)
            for type in TYPES
            if type != "targets"
            for fields in self._admin.entries(_path(type))
        ]
        upstreams = [entity.id for entity in found if entity.type == "upstreams"]
        targets = (fields for id in upstreams for fields in self._admin.entries(f"/upstreams/{id}/targets"))
        return sorted([*found, *(Entity("targets", fields, kept=True) for fields in targets)], key=lambda it: it.rank)

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of entities that are there, one entity at a time, and nothing else of them."""
        for entity in entities:
            self._admin.check(entity)
        for entity in entities:
            parent = f"/upstreams/{entity.fields['upstream']['id']}" if entity.type == "targets" else ""
            body = {key: value for key, value in entity.fields.items() if key not in {"id", *SET_BY_KONG}}
            if not self._admin.write("PATCH", f"{parent}{_path(entity.type)}/{entity.id}", entity, body):
                raise StepFailed(f"{entity} is no longer in Kong, or clashes there with another one", "try it again")
            self._written[part_of(entity)] = time.monotonic()
            if entity.type == "targets":
                with self._lock:
                    self._targets.pop(entity.fields["upstream"]["id"], None)

    def _replace(self, put: Sequence[Entity], new: Sequence[Entity], gone: Sequence[Entity]) -> None:
        for entity in put:
            self._put(entity)
        self._wait_for([it for it in new if it.type == "targets" and it.fields.get("weight", DEFAULT_WEIGHT)], gone)
        for entity in gone:
            self._delete(entity)

    def _refuse_clashes(self, host: str, put: Sequence[Entity], new: Sequence[Entity], first: Sequence[Entity]) -> None:
        """Kong would only refuse a name at its turn, after others were written, and no route for its requests.

        `first` are those that go.
        """
        mine = {entity.id for entity in (*put, *first)}
        routes = [entity for entity in put if entity.type == "routes"]
        there = [one for one in self._all("routes") if one.id not in mine] if routes else []
        for type in dict.fromkeys(entity.type for entity in new if entity.type != "targets"):
            ours = [entity for entity in new if entity.type == type]
            others = there if type == "routes" else self._others(type, ours)
            refuse_taken(ours, (one for one in others if one.id not in mine))
        refuse_rivals(routes, (one for one in there if not self._is_mine(one.fields, host)))

    def _is_mine(self, fields: Json, host: str) -> bool:
        return is_ours(fields, host)

    def _others(self, type: str, ours: Sequence[Entity]) -> Iterable[Entity]:
        """Those in Kong of a type: by name where that is enough, and they are few, else all of them."""
        unique = UNIQUE.get(type, ("name",))
        keys = [key for key in unique if isinstance(key, tuple) or any(key in entity.fields for entity in ours)]
        if keys not in (["name"], ["username"], ["prefix"]) or len(ours) > FEW:
            return self._all(type)
        named = (self._admin.get(f"{_path(type)}/{_quoted(entity.fields[str(keys[0])])}") for entity in ours)
        return [Entity(type, fields, kept=True) for fields in named if fields]

    def _all(self, type: str) -> Iterable[Entity]:
        return (Entity(type, fields, kept=True) for fields in self._admin.entries(_path(type)))

    def _put(self, entity: Entity) -> None:
        if entity.kept and entity.type == "basicauth_credentials":
            raise StepFailed(f"{entity} can not be put back: Kong only tells the hash of its password")
        body = {key: value for key, value in entity.fields.items() if key not in SET_BY_KONG}
        update = {key: value for key, value in body.items() if key != "id"}
        if entity.type == "targets":
            path = f"/upstreams/{entity.fields['upstream']['id']}/targets"
            done = self._admin.write("PATCH", f"{path}/{entity.id}", entity, update)  # PUT makes no new targets
            done = done or self._admin.write("POST", path, entity, body)
        else:
            done = self._admin.write("PUT", f"{_path(entity.type)}/{entity.id}", entity, update)
        if not done:
            raise StepFailed(f"{entity} clashes with one that is in Kong and not ours", CLASH_HINT)
        self._written[part_of(entity)] = time.monotonic()

    def _wait_for(self, new: Sequence[Entity], gone: Sequence[Entity]) -> None:
        """Wait until Kong balances over the new targets, before the old ones go.  Raises Unavailable."""
        losing = {entity.fields["upstream"]["id"] for entity in gone if entity.type == "targets"}
        end = time.monotonic() + BALANCED_WITHIN
        for upstream in {entity.fields["upstream"]["id"] for entity in new} & losing:
            missing = {entity.fields["target"] for entity in new if entity.fields["upstream"]["id"] == upstream}
            while True:
                health = self._admin.entries(f"/upstreams/{upstream}/health")
                missing -= {target["target"] for target in health if target.get("health") in SERVING}
                if not missing:
                    break
                if time.monotonic() > end:
                    raise Unavailable(
                        f"Kong has not taken up the target {', '.join(sorted(missing))} in {BALANCED_WITHIN:g} s"
                    )
                time.sleep(0.02)

    def _delete(self, entity: Entity) -> None:
        parent = f"/upstreams/{entity.fields['upstream']['id']}" if entity.type == "targets" else ""
        self._admin.delete(f"{parent}{_path(entity.type)}/{entity.id}")
        self._written[part_of(entity)] = time.monotonic()


def _by_type(rows: Iterable[Json]) -> Mapping[str, set[str]]:
    """The ids of each type in a list of what has a tag."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        name = str(row["entity_name"])
        ids[TABLES.get(name, name)].add(row["entity_id"])
    return ids


def _path(type: str) -> str:
    return f"/{PATHS.get(type, type)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
