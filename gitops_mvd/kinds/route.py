"""Routes: all that Kong has of a service, or of the gateway itself, as one resource."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Json, Resource, Role, Service
from gitops_mvd.kinds import Tools
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.compare import normal
from gitops_mvd.kong.declare import declared, of_service, of_targets
from gitops_mvd.kong.entities import DEFAULT_WEIGHT, Entity, tagged
from gitops_mvd.kong.shared import store as shared
from gitops_mvd.manifest.references import file_names, filled_in
from gitops_mvd.state.secret_files import SecretFiles

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
    role = Role.ROUTE
    prunes = True
    keeps_previous = False

    def __init__(
        self, kong: Kong | None, host: str, address: str = "127.0.0.1", *, secrets: SecretFiles | None = None
    ) -> None:
        self._kong = kong
        self._host = host
        self._address = address
        self._shared = kong.shared if kong else ""
        self._secrets = secrets
        # What does not change is made once; each beside what it was made of.
        self._wanted: dict[Owner, tuple[tuple[object, int | None], Resource]] = {}
        self._found: dict[Owner, tuple[object, Resource]] = {}
        self._normalized: dict[str, Json] = {}  # by name: what is in sync is one object, and so compared at a glance
        self._all_found: tuple[Sequence[Entity], list[Resource]] = ((), [])

    def wanted(self, app: App) -> Iterator[Resource]:
        """With the secrets that it refers to: the payload has them, and the spec their digests.  Raises StepFailed."""
        for service in app.services:
            if service.kong is not None:
                yield self._want((app.name, service.name), service, service.kong, self._of_service)
        if any(app.kong_entities.values()):
            yield self._want((app.name, ""), app.kong_entities, app.kong_entities, self._of_gateway)

    def _want(
        self, owner: Owner, source: Source, kong: Json, make: Callable[[Owner, Source, Json], Resource]
    ) -> Resource:
        """The resource of a declaration: the one that was made before, unless that or a secret of it has changed."""
        (before, version), resource = self._wanted.get(owner, ((None, None), None))
        now = self._secrets.version if self._secrets else 0
        if resource is None or before != source or (version is not None and version != now):
            names = file_names(kong)
            resource = make(owner, source, filled_in(kong, self._secret) if names else kong)
            self._wanted[owner] = (source, now if names else None), resource
        return resource

    def _secret(self, name: str) -> str:
        if not self._secrets:
            raise StepFailed(f"the secret {name} is needed, and this host has no folder for secrets")
        return self._secrets.read(name)

    def _of_service(self, owner: Owner, service: Service, kong: Json) -> Resource:
        targets = [{"instance": name, "address": ""} for name in sorted(service.instances(owner[0]))]
        if self._shared:
            return self._resource(owner, shared.of_service(self._shared, *owner, kong), targets)
        return self._resource(owner, of_service(self._host, *owner, kong), targets)

    def _of_gateway(self, owner: Owner, _: object, gateway: Mapping[str, list[Json]]) -> Resource:
        if self._shared:
            entities = shared.of_gateway(self._shared, owner[0], gateway)
            claims = [shared.claim(self._host, self._address)]
        else:
            entities, claims = declared(self._host, gateway, [f"app:{owner[0]}"]), []
        _refuse_shared(entities)
        return self._resource(owner, entities, claims)

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
        targets = [_target(entity) for entity in entities if _is_placed(entity)]
        others = [entity for entity in entities if not _is_placed(entity)]
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


def _refuse_shared(entities: Iterable[Entity]) -> None:
    """Raise StepFailed where two consumers have the same credential, which only its text can tell."""
    names = {it.id: str(it.fields.get("username") or it.fields.get("custom_id")) for it in entities}
    owners: dict[tuple[str, str], str] = {}
    for entity in entities:
        if "consumer" in entity.fields and entity.type != "plugins":
            name = names.get(entity.fields["consumer"]["id"], "?")
            other = owners.setdefault((entity.type, entity.id), name)
            if other != name:
                kind = entity.type.removesuffix("s")
                raise StepFailed(f"the consumers {other} and {name} have the same {kind}", "give each its own")


def _is_placed(entity: Entity) -> bool:
    """Is it the target of an instance, and not one that was declared?"""
    return entity.type == "targets" and bool(tagged(entity.tags, "instance"))


def _target(entity: Entity) -> Json:
    address, weight = entity.fields["target"], entity.fields["weight"]
    changed = "" if weight == DEFAULT_WEIGHT else f" (weight {weight})"
    return {"instance": tagged(entity.tags, "instance"), "address": f"{address}{changed}"}


def connect(tools: Tools) -> Routes:
    return Routes(tools.kong, tools.host, tools.address, secrets=tools.secrets)
