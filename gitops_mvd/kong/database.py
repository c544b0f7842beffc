"""Kong with a database: entity by entity, in the order in which they refer to each other."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.kong.admin import PATHS, Admin
from gitops_mvd.kong.entities import LISTED, OWNED, UNIQUE, Entity, clash, is_ours, same

TAKEN_UP = 5.0  # s; the node that took a change uses a new target within 40 ms
SERVING = {"HEALTHY", "HEALTHCHECKS_OFF"}
SET_BY_KONG = {"created_at", "updated_at", "ws_id"}


class Store:
    """What a Kong with a database holds.

    Kong lists no targets but those of one upstream.  So their ids are listed by tag, and an upstream's own are only
    read where the ids tell that they changed, and in turn, one upstream a look, for what was changed by hand.
    """

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._targets: OrderedDict[str, list[Entity]] = OrderedDict()  # upstream -> targets, last read last
        self._lock = threading.Lock()
        self.written: dict[str, float] = {}  # id of a route -> when we last wrote it, by the monotonic clock

    def look(self, host: str) -> list[Entity]:
        """All entities of ours: a call for each type that we have, and two for targets."""
        found = [entity for type in LISTED for entity in self._list(type, host)]
        indexed: dict[str, set[str]] = {}
        for row in self._admin.pages(f"/tags/{_quoted(f'index:{host}')}"):
            indexed.setdefault(row["entity_name"], set()).add(row["entity_id"])
        ids = indexed.pop("targets", set())
        found += [entity for type in sorted(indexed) for entity in self._list(type, host)]
        upstreams = [entity.id for entity in found if entity.type == "upstreams"]
        with self._lock:
            found += self._look_at_targets(host, upstreams, ids)
        return sorted(found, key=lambda entity: entity.rank)

    def _list(self, type: str, host: str) -> Iterator[Entity]:
        for fields in self._admin.pages(_path(type), tags=f"{OWNED},host:{host}"):
            if is_ours(fields, host):
                yield Entity(type, fields, kept=True)

    def _look_at_targets(self, host: str, upstreams: Sequence[str], ids: set[str]) -> list[Entity]:
        known = {upstream: {target.id for target in there} for upstream, there in self._targets.items()}
        for upstream in known.keys() - set(upstreams):
            del self._targets[upstream]
        stale = [upstream for upstream in upstreams if upstream not in known or not known[upstream] <= ids]
        if not stale and not ids <= set().union(*known.values()):
            stale = list(upstreams)  # somebody else added one, and Kong does not tell where
        turn = [upstream for upstream in list(self._targets)[:1] if upstream not in stale]
        for upstream in (*stale, *turn):
            there = self._admin.pages(f"/upstreams/{upstream}/targets")
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
        for entity in put:
            self._admin.check(entity)
        for entity in new:
            self._refuse_clash(entity)
        try:
            self._replace(put, new, gone)
        finally:
            with self._lock:
                for target in (entity for entity in (*put, *gone) if entity.type == "targets"):
                    self._targets.pop(target.fields["upstream"]["id"], None)

    def _replace(self, put: Sequence[Entity], new: Sequence[Entity], gone: Sequence[Entity]) -> None:
        for entity in put:
            self._put(entity)
        self._wait_for([entity for entity in new if entity.type == "targets"], gone)
        for entity in gone:
            self._delete(entity)

    def _refuse_clash(self, entity: Entity) -> None:
        key = UNIQUE.get(entity.type, ("name",))[0]
        if key in {"name", "username", "prefix"} and entity.fields.get(key):
            there = self._admin.get(f"{_path(entity.type)}/{_quoted(entity.fields[key])}")
            if there and there["id"] != entity.id:
                raise clash(entity, Entity(entity.type, there))

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
            raise StepFailed(f"{entity} clashes with one that is in Kong and not ours", "delete it from Kong")
        if entity.type == "routes":
            self.written[entity.id] = time.monotonic()

    def _wait_for(self, new: Sequence[Entity], gone: Sequence[Entity]) -> None:
        """Wait until Kong balances over the new targets, before the old ones go.  Raises Unavailable."""
        losing = {entity.fields["upstream"]["id"] for entity in gone if entity.type == "targets"}
        end = time.monotonic() + TAKEN_UP
        for upstream in {entity.fields["upstream"]["id"] for entity in new} & losing:
            missing = {entity.fields["target"] for entity in new if entity.fields["upstream"]["id"] == upstream}
            while True:
                health = self._admin.pages(f"/upstreams/{upstream}/health")
                missing -= {target["target"] for target in health if target.get("health") in SERVING}
                if not missing:
                    break
                if time.monotonic() > end:
                    raise Unavailable(
                        f"Kong has not taken up the target {', '.join(sorted(missing))} in {TAKEN_UP:g} s"
                    )
                time.sleep(0.02)

    def _delete(self, entity: Entity) -> None:
        parent = f"/upstreams/{entity.fields['upstream']['id']}" if entity.type == "targets" else ""
        self._admin.delete(f"{parent}{_path(entity.type)}/{entity.id}")


def _path(type: str) -> str:
    return f"/{PATHS.get(type, type)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
