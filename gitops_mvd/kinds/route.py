"""Routes: all that Kong has of a service, or of the gateway itself, as one resource."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from gitops_mvd.errors import Unavailable
from gitops_mvd.kinds import Tools
from gitops_mvd.kong import Kong, shared
from gitops_mvd.kong.compare import normal
from gitops_mvd.kong.declare import declared, of_service, of_targets
from gitops_mvd.kong.entities import DEFAULT_WEIGHT, Entity, tagged
from gitops_mvd.model import App, Change, Json, Resource, Service

Owner = tuple[str, str]  # app and service; "" for what is the gateway's own
Source = TypeVar("Source")


class Routes:
    """`spec` has the declared fields of all `entities` and the `targets`, `payload` the entities without the targets.

    One for each service with `x-kong`, named `<app>.<service>`, and one for the app made of the folder `kong/`, named
    after the app.  On a host without a gateway, they wait for one.  Of a Kong that is shared with other hosts, the
    targets are those of this host alone, which has `address`.
    """

    name = "route"
    after = ("unit",)
    prunes = True

    def __init__(self, kong: Kong | None, host: str, address: str = "127.0.0.1") -> None:
        self._kong = kong
        self._host = host
        self._address = address
        self._shared = kong.shared if kong else ""
        # What does not change is made once; each beside what it was made of.
        self._wanted: dict[Owner, tuple[object, Resource]] = {}
        self._found: dict[Owner, tuple[object, Resource]] = {}
        self._normalized: dict[str, Json] = {}  # by name: what is in sync is one object, and so compared at a glance
        self._all_found: tuple[Sequence[Entity], list[Resource]] = ((), [])

    def wanted(self, app: App) -> Iterator[Resource]:
        for service in app.services:
            if service.kong is not None:
                yield _remembered(self._wanted, (app.name, service.name), service, self._of_service)
        if app.gateway:
            yield _remembered(self._wanted, (app.name, ""), app.gateway, self._of_gateway)

    def _of_service(self, owner: Owner, service: Service) -> Resource:
        targets = [{"instance": name, "address": ""} for name in sorted(service.instances(owner[0]))]
        kong = service.kong or {}
        if self._shared:
            return self._resource(owner, shared.of_service(self._shared, *owner, kong), targets)
        return self._resource(owner, of_service(self._host, *owner, kong), targets)

    def _of_gateway(self, owner: Owner, gateway: Mapping[str, list[Json]]) -> Resource:
        if self._shared:
            claims = [shared.claim(self._host, self._address)]
            return self._resource(owner, shared.of_gateway(self._shared, owner[0], gateway), claims)
        return self._resource(owner, declared(self._host, gateway, [f"app:{owner[0]}"]), [])

    def observe(self) -> Iterable[Resource]:
        """Raises Unavailable."""
        entities = self._kong.look(self._host) if self._kong else ()
        if entities is not self._all_found[0]:
            self._all_found = entities, list(self._resources(entities))
        return self._all_found[1]

    def _resources(self, entities: Iterable[Entity]) -> Iterator[Resource]:
        by_owner: dict[Owner, list[Entity]] = defaultdict(list)
        for entity in entities:
            by_owner[_owner(entity)].append(entity)
        for owner, theirs in by_owner.items():
            yield _remembered(self._found, owner, theirs, self._of_entities)

    def _of_entities(self, owner: Owner, entities: Sequence[Entity]) -> Resource:
        targets = [_target(entity) for entity in entities if _is_own(entity)]
        others = [entity for entity in entities if not _is_own(entity)]
        return self._resource(owner, others, sorted(targets, key=lambda target: target["instance"]))

    def apply(self, changes: Sequence[Change]) -> None:
        if not self._kong:
            raise Unavailable("this host has no gateway", "set `kong` in its settings")
        meant = {(change.resource.app, change.resource.service) for change in changes}
        entities = [entity for change in changes if change.to for entity in self._entities(change.to)]
        self._kong.bring(self._host, lambda entity: _owner(entity) in meant, sorted(entities, key=lambda e: e.rank))

    def _resource(self, owner: Owner, entities: Iterable[Entity], targets: Sequence[Json]) -> Resource:
        app, service = owner
        name = f"{app}.{service}" if service else app
        normalized = normal(entities)
        if normalized != self._normalized.get(name):
            self._normalized[name] = normalized
        spec = {"entities": self._normalized[name], "targets": targets}
        return Resource(self.name, name, app, service, spec, tuple(entities))

    def _entities(self, route: Resource) -> list[Entity]:
        targets = route.spec["targets"]
        if self._shared:
            return [*route.payload, *shared.of_targets(self._shared, self._host, route.app, route.service, targets)]
        return [*route.payload, *of_targets(self._host, route.app, route.service, targets)]


def _remembered(
    memory: dict[Owner, tuple[object, Resource]],
    owner: Owner,
    source: Source,
    make: Callable[[Owner, Source], Resource],
) -> Resource:
    """The resource that was made of this very source before, or a new one."""
    before, resource = memory.get(owner, (None, None))
    if resource is None or before != source:
        resource = make(owner, source)
        memory[owner] = source, resource
    return resource


def _owner(entity: Entity) -> Owner:
    return tagged(entity.tags, "app"), tagged(entity.tags, "service")


def _is_own(entity: Entity) -> bool:
    return entity.type == "targets" and bool(tagged(entity.tags, "instance"))


def _target(entity: Entity) -> Json:
    address, weight = entity.fields["target"], entity.fields["weight"]
    changed = "" if weight == DEFAULT_WEIGHT else f" (weight {weight})"
    return {"instance": tagged(entity.tags, "instance"), "address": f"{address}{changed}"}


def connect(tools: Tools) -> Routes:
    return Routes(tools.kong, tools.host, tools.address)
