"""Routes: all that Kong has of a service, or of the gateway itself, as one resource."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from gitops_mvd.errors import Unavailable
from gitops_mvd.kinds import Tools
from gitops_mvd.kong import Kong
from gitops_mvd.kong.entities import DEFAULT_WEIGHT, Entity, declared, normal, of_service, of_targets, tagged
from gitops_mvd.model import App, Change, Json, Resource


class Routes:
    """`spec` has the declared fields of all `entities` and the `targets`, `payload` the entities without the targets.

    One for each service with `x-kong`, named `<app>.<service>`, and one for the app made of the folder `kong/`, named
    after the app.  On a host without a gateway, they wait for one.
    """

    name = "route"
    after = ("unit",)
    prunes = True

    def __init__(self, kong: Kong | None, host: str) -> None:
        self._kong = kong
        self._host = host
        self._declared: dict[tuple[str, str], tuple[Json, Resource]] = {}  # what does not change is compiled once
        self._shown: tuple[Sequence[Entity], list[Resource]] = ((), [])

    def wanted(self, app: App) -> Iterator[Resource]:
        for service in app.services:
            if service.kong is not None:
                targets = [{"instance": name, "address": ""} for name in sorted(service.instances(app.name))]
                yield self._compiled(app.name, service.name, service.kong).with_spec(targets=targets)
        if app.gateway:
            yield self._compiled(app.name, "", app.gateway)

    def _compiled(self, app: str, service: str, what: Json) -> Resource:
        before, resource = self._declared.get((app, service), (None, None))
        if not resource or before != what:
            if service:
                entities = of_service(self._host, app, service, what)
            else:
                entities = declared(self._host, what, [f"app:{app}"])
            resource = self._resource(app, service, entities, [])
            self._declared[app, service] = what, resource
        return resource

    def observe(self) -> Iterable[Resource]:
        """Raises Unavailable."""
        entities = self._kong.look(self._host) if self._kong else ()
        if entities is not self._shown[0]:
            self._shown = entities, list(self._resources(entities))
        return self._shown[1]

    def _resources(self, entities: Iterable[Entity]) -> Iterator[Resource]:
        found: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        for entity in entities:
            found[_owner(entity)].append(entity)
        for (app, service), theirs in found.items():
            targets = [_target(entity) for entity in theirs if entity.type == "targets"]
            others = [entity for entity in theirs if entity.type != "targets"]
            yield self._resource(app, service, others, sorted(targets, key=lambda target: target["instance"]))

    def apply(self, changes: Sequence[Change]) -> None:
        if not self._kong:
            raise Unavailable("this host has no gateway", "set `kong` in its settings")
        meant = {(change.resource.app, change.resource.service) for change in changes}
        entities = [entity for change in changes if change.to for entity in self._entities(change.to)]
        self._kong.bring(self._host, lambda entity: _owner(entity) in meant, sorted(entities, key=lambda e: e.rank))

    def _resource(self, app: str, service: str, entities: Iterable[Entity], targets: Sequence[Json]) -> Resource:
        name = f"{app}.{service}" if service else app
        spec = {"entities": normal(entities), "targets": targets}
        return Resource(self.name, name, app, service, spec, tuple(entities))

    def _entities(self, route: Resource) -> list[Entity]:
        return [*route.payload, *of_targets(self._host, route.app, route.service, route.spec["targets"])]


def _owner(entity: Entity) -> tuple[str, str]:
    return tagged(entity.tags, "app"), tagged(entity.tags, "service")


def _target(entity: Entity) -> Json:
    address, weight = entity.fields["target"], entity.fields["weight"]
    changed = "" if weight == DEFAULT_WEIGHT else f" (weight {weight})"
    return {"instance": tagged(entity.tags, "instance"), "address": f"{address}{changed}"}


def connect(tools: Tools) -> Routes:
    return Routes(tools.kong, tools.host)
