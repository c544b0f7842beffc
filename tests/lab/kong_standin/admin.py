"""The Admin API of Kong 3.9.1, in both modes: a request in, a status and a body out."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any
from urllib.parse import quote, urlencode

from tests.lab.kong_standin import declarative, faults
from tests.lab.kong_standin.checks import split_address
from tests.lab.kong_standin.faults import Fault
from tests.lab.kong_standin.health import DEFAULT_PORT, Health
from tests.lab.kong_standin.rules import Record, is_uuid
from tests.lab.kong_standin.schema import KINDS, PLUGINS, Kind, complete, shown
from tests.lab.kong_standin.store import Store
from tests.lab.kong_standin.workers import Worker

VERSION = "3.9.1"
ENTERPRISE_VERSION = "3.12.0.0"
TAGLINE = "gitops-mvd lab stand-in, not Kong"
PAGE_SIZE = 100
LARGEST_PAGE = 1000
DATABASE_ONLY = "this endpoint is only available when Kong is configured to not use a database"
KINDS_BY_PATH = {kind.api: kind for kind in KINDS.values() if kind.top}
VERBS = {"POST": "create", "PUT": "create or update", "PATCH": "update", "DELETE": "remove"}

Answer = tuple[int, Any]

TABLES = {"vaults": "sm_vaults"}  # a list of tags calls these by the name of their table


@dataclass(frozen=True)
class Call:
    """One request to the Admin API, which `worker` answers; `path` is in decoded segments."""

    worker: Worker
    method: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Record:
        if not self.body:
            return {}
        try:
            given = json.loads(self.body)
        except ValueError:
            raise faults.bad_request("Cannot parse JSON body") from None
        if not isinstance(given, dict):
            raise faults.bad_request("Cannot parse JSON body")
        return given


class Admin:
    """Answers calls from the store. `settings` are those that `GET /` tells.

    Without a license it is a Kong Enterprise that only reads, and that does not check anything either.  While it does
    not reach its database, it has its status and its schemas alone.
    """

    def __init__(
        self,
        store: Store,
        health: Health,
        workers: Sequence[Worker],
        settings: Mapping[str, object],
        *,
        licensed: bool = True,
    ) -> None:
        self.licensed = licensed
        self.reaches_database = True
        self.store = store
        self.health = health
        self.workers = workers
        self.settings = settings
        self.node_id = str(uuid.uuid4())
        self.requests = 0

    def answer(self, call: Call) -> Answer:
        self.requests += 1
        try:
            return self._answer(call)
        except Fault as fault:
            return fault.status, fault.body

    def _answer(self, call: Call) -> Answer:
        if not self.reaches_database and call.path[:1] not in (("status",), ("schemas",)):
            raise Fault(500, {"message": f"An unexpected error {'occurred' if call.path else 'happened'}"})
        match call.path:
            case ():
                return 200, self._node()
            case ("status",):
                return 200, self._status()
        if not self.licensed and call.method != "GET":
            raise Fault(403, {"message": "Enterprise license missing or expired"})
        match call.path:
            case ("config",):
                return self._config(call)
            case ("tags", *tag):
                return 200, {"data": self._tagged(tag[0] if tag else ""), "next": None}
            case ("schemas", "plugins", "validate") | ("schemas", _, "validate"):
                return self._validate(call)
            case ("schemas", "plugins", name):
                if name not in PLUGINS:
                    raise Fault(404, {"message": f"No plugin named '{name}'"})
                return 200, shown(KINDS["plugins"], name)
            case ("schemas", name):
                if name not in KINDS:
                    raise Fault(404, {"message": f"No entity named '{name}'"})
                return 200, shown(KINDS[name])
            case ("plugins", "enabled"):
                return 200, {"enabled_plugins": sorted(PLUGINS)}
            case ("upstreams", upstream, *rest) if rest and rest[0] in ("health", "targets"):
                return self._balancer(call, self.store.get("upstreams", upstream), rest)
            case (api, *rest) if api in KINDS_BY_PATH:
                return self._entities(call, KINDS_BY_PATH[api], rest)
        raise faults.not_found()

    def _node(self) -> Record:
        return {
            "version": VERSION if self.licensed else ENTERPRISE_VERSION,
            "edition": "community" if self.licensed else "enterprise",
            "hostname": socket.gethostname(),
            "node_id": self.node_id,
            "tagline": TAGLINE,
            "configuration": {
                "database": "postgres" if self.store.database else "off",
                "router_flavor": "traditional_compatible",
                "role": "traditional",
                "worker_consistency": "eventual",
                **self.settings,
            },
            "plugins": {"available_on_server": sorted(PLUGINS)},
            "pids": {"master": os.getpid(), "workers": [worker.pid for worker in self.workers]},
        }

    def _status(self) -> Record:
        """With the connections by which the workers hear of each other: a request each that never ends."""
        writing = 1 + len(self.workers) + sum(worker.open_requests for worker in self.workers)
        server = {f"connections_{name}": self.requests for name in ("accepted", "handled")} | {
            "connections_active": writing,
            "connections_reading": 0,
            "connections_writing": writing,
            "connections_waiting": 0,
            "total_requests": self.requests,
        }
        if self.store.database:
            return {"database": {"reachable": self.reaches_database}, "server": server}
        return {"configuration_hash": self.store.configuration_hash, "server": server}

    def _config(self, call: Call) -> Answer:
        if self.store.database:
            raise faults.bad_request(DATABASE_ONLY)
        if call.method == "GET":
            return 200, {"config": declarative.write(self.store)}
        if call.method != "POST":
            raise faults.method_not_allowed()
        text = self._document(call)
        hash = md5(text.encode()).hexdigest()
        if call.query.get("check_hash") == "1" and hash == self.store.configuration_hash:
            return 304, None
        return 201, declarative.load(self.store, text)

    def _document(self, call: Call) -> str:
        """The document of POST /config: in the field `config`, or as the body itself."""
        try:
            wrapped = json.loads(call.body)
        except ValueError:
            wrapped = None
        document: Any = call.body.decode(errors="replace")
        if isinstance(wrapped, dict) and "_format_version" not in wrapped:
            document = wrapped.get("config")
        if not isinstance(document, str) or not document:
            raise faults.bad_request("expected a declarative configuration")
        return document

    def _validate(self, call: Call) -> Answer:
        if call.method != "POST":
            raise faults.method_not_allowed()
        name = call.path[1]
        if name not in KINDS:
            raise Fault(404, {"message": f"No entity named '{name}'"})
        complete(KINDS[name], call.json())
        return 200, {"message": "schema validation successful"}

    def _tagged(self, tag: str) -> list[Record]:
        rows = [
            {"entity_name": TABLES.get(kind, kind), "entity_id": entity["id"], "tag": each}
            for kind in KINDS
            for entity in self.store.all(kind)
            for each in entity["tags"] or ()
            if tag in ("", each)
        ]
        return sorted(rows, key=lambda row: str(row["entity_id"]))

    def _entities(self, call: Call, kind: Kind, rest: list[str]) -> Answer:
        """`/services`, `/services/KEY`, `/services/KEY/routes`, `/services/KEY/routes/KEY`, `/routes/KEY/service`."""
        if not rest:
            return self._collection(call, kind, {})
        if len(rest) == 1:
            return self._entity(call, kind, rest[0], {})
        parent = self.store.get(kind.name, rest[0])
        if len(rest) == 2 and rest[1] in kind.references():
            if parent[rest[1]] is None:
                raise faults.not_found()
            return self._entity(call, KINDS[kind.references()[rest[1]]], parent[rest[1]]["id"], {})
        child, link = self._child(kind, rest[1])
        owned = {link: {"id": parent["id"]}}
        if len(rest) == 2:
            return self._collection(call, child, owned)
        if len(rest) == 3:
            return self._entity(call, child, rest[2], owned)
        raise faults.not_found()

    def _child(self, parent: Kind, word: str) -> tuple[Kind, str]:
        for kind in KINDS.values():
            for link, other in kind.references().items():
                if other == parent.name and kind.nested == word:
                    return kind, link
        raise faults.not_found()

    def _collection(self, call: Call, kind: Kind, owned: Record) -> Answer:
        if call.method == "GET":
            return 200, self._page(call, kind, owned)
        if call.method != "POST":
            raise faults.method_not_allowed()
        given = call.json()
        self._refuse_without_database(call, kind)
        return 201, self.store.insert(kind.name, {**_formatted(kind, given), **owned})

    def _entity(self, call: Call, kind: Kind, key: str, owned: Record) -> Answer:
        found = self._owned(kind, key, owned)
        if call.method == "GET":
            if found is None:
                raise faults.not_found()
            return 200, found
        if call.method not in VERBS or call.method == "POST":
            raise faults.method_not_allowed()
        given = call.json()
        self._refuse_without_database(call, kind)
        if call.method == "PUT" and not (found is None and not is_uuid(key) and not kind.key):
            return 200, self.store.upsert(kind.name, key, {**given, **owned})
        if found is None and (owned or call.method != "DELETE"):
            raise faults.not_found()
        if call.method == "PATCH":
            return 200, self.store.update(kind.name, key, _formatted(kind, given))
        self.store.delete(kind.name, key)
        self.health.keep_only({target["id"] for target in self.store.all("targets")})
        return 204, None

    def _owned(self, kind: Kind, key: str, owned: Record) -> Record | None:
        found = self.store.find(kind.name, key)
        if found and any(found[link] != parent for link, parent in owned.items()):
            return None
        return found

    def _refuse_without_database(self, call: Call, kind: Kind) -> None:
        if not self.store.database:
            raise faults.read_only(VERBS[call.method], kind.name)

    def _page(self, call: Call, kind: Kind, owned: Record) -> Record:
        size = call.query.get("size", str(PAGE_SIZE))
        if not size.isdigit() or not 1 <= int(size) <= LARGEST_PAGE:
            raise faults.invalid_size()
        carries = _tag_filter(call.query.get("tags"))

        def wanted(entity: Record) -> bool:
            return carries(entity) and all(entity[link] == parent for link, parent in owned.items())

        found, offset = self.store.page(kind.name, int(size), call.query.get("offset", ""), wanted)
        if offset is None:
            return {"data": found, "next": None}
        kept = {name: call.query[name] for name in ("tags", "size") if name in call.query}
        path = "/" + "/".join(quote(segment, safe=":") for segment in call.path)
        return {"data": found, "offset": offset, "next": f"{path}?{urlencode({'offset': offset, **kept})}"}

    def _balancer(self, call: Call, upstream: Record, rest: list[str]) -> Answer:
        """Targets, which go by address as well as by id, and how they are."""
        kind, owned = KINDS["targets"], {"upstream": {"id": upstream["id"]}}
        match rest:
            case ["health"]:
                page = self._page(call, kind, owned)
                balanced = call.worker.targets(upstream)
                rows = [self.health.shown(upstream, target, balanced) for target in page["data"]]
                return 200, {**page, "data": rows, "node_id": self.node_id}
            case ["targets"] | ["targets", "all"]:
                return self._collection(call, kind, owned)
            case ["targets", key, *verdict] if len(verdict) < 2:
                target = self._target(upstream, key)
                if not verdict:
                    return self._one_target(call, kind, target)
                if verdict[0] in ("healthy", "unhealthy") and call.method == "PUT":
                    self.health.declare(upstream, target, healthy=verdict[0] == "healthy")
                    return 204, None
        raise faults.not_found()

    def _target(self, upstream: Record, key: str) -> Record:
        found = (
            self._owned(KINDS["targets"], key, {"upstream": {"id": upstream["id"]}})
            if is_uuid(key)
            else self.store.by("targets", upstream={"id": upstream["id"]}, target=key)
        )
        if found is None:
            raise faults.not_found()
        return found

    def _one_target(self, call: Call, kind: Kind, target: Record) -> Answer:
        if call.method == "PUT":  # of a target that is there, Kong changes only what was given
            call = Call(call.worker, "PATCH", call.path, call.query, call.body)
        return self._entity(call, kind, target["id"], {})


def _formatted(kind: Kind, given: Record) -> Record:
    """As it is kept in a database: a target with its port."""
    found = split_address(str(given.get("target"))) if kind.name == "targets" and "target" in given else None
    if not found:
        return given
    host, port = found
    name = f"[{ipaddress.IPv6Address(host).exploded}]" if ":" in host else host
    return {**given, "target": f"{name}:{port or DEFAULT_PORT}"}


def _tag_filter(tags: str | None) -> Callable[[Record], bool]:
    """`a,b` asks for both tags, `a/b` for one of them."""
    if tags is None:
        return lambda entity: True
    wanted = set(tags.split("/" if "/" in tags else ","))
    if "/" in tags:
        return lambda entity: not wanted.isdisjoint(entity["tags"] or ())
    return lambda entity: wanted <= set(entity["tags"] or ())
