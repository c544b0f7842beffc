"""Routes: all that Kong has of one service, or of the folder `kong/`, as one resource."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Resource, Role, Service
from gitops_mvd.core.route import USUAL_WEIGHT, Counted, EntityFields, RouteSpec, Target
from gitops_mvd.core.xkong import XKong
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.docker.swarm_targets import TASKS, Serving
from gitops_mvd.kinds import Tools
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.compare import declared_fields
from gitops_mvd.kong.counted import counted_by, is_counting
from gitops_mvd.kong.declare import Declarations, service_name
from gitops_mvd.kong.entities import Entity, Key, Owner, entities_of, is_instance_target, tag_value
from gitops_mvd.kong.shared.entities import SharedDeclarations
from gitops_mvd.manifest.references import filled_in
from gitops_mvd.secrets.store import Secrets


class Routes:
    """The spec is a RouteSpec, the payload the entities (`tuple[Entity, ...]`) without the targets of instances.

    One for each service with `x-kong`, named `<app>.<service>`, and one for the app made of the folder `kong/`, named
    after the app.  On a host without a Kong, they wait for one.  In a Kong that several hosts share, the targets are
    those of this host alone, which has `address`.  On a Swarm, the address of a target is TASKS: the addresses of the
    tasks that serve at the time.  Where Kong has others, it was found to lag behind.
    """

    name = "route"
    role = Role.ROUTE
    prunes = True
    keeps_previous = False

    def __init__(
        self,
        kong: Kong | None,
        host: str,
        address: str = "127.0.0.1",
        *,
        secrets: Secrets | None = None,
        tasks: Serving | None = None,
    ) -> None:
        self.after: tuple[str, ...] = ("swarm_service",) if tasks else ("unit",)
        self._tasks = tasks
        self._kong = kong
        self._host = host
        self._secrets = secrets
        shared = kong.shared if kong else ""
        self._declarations = SharedDeclarations(shared, host, address) if shared else Declarations(host)
        # While Kong has the same, every resource is the same object, and so is what the wanted and the found one share.
        self._observed: tuple[Sequence[Entity], Sequence[Resource]] = ((), ())
        self._found: Mapping[Owner, tuple[Sequence[Entity], Resource]] = {}
        self._fields: dict[Owner, EntityFields] = {}

    def wanted(self, app: App) -> Iterator[Resource]:
        """With the secrets that it refers to: the payload has them, and the spec their digests.  Raises StepFailed."""
        for service in app.services:
            if service.kong is not None:
                yield self._of_service(app.name, service, service.kong)
        if any(app.kong_entities.values()):
            yield self._of_app(app)

    def _of_service(self, app: str, service: Service, kong: XKong) -> Resource:
        owner = app, service.name
        entities = self._declarations.of_service(owner, filled_in(kong, self._secret))
        address = TASKS if self._tasks else ""
        targets = [Target(instance=name, address=address) for name in sorted(service.instances(app))]
        return self._resource(owner, entities, targets)

    def _of_app(self, app: App) -> Resource:
        entities = self._declarations.of_app(app.name, filled_in(app.kong_entities, self._secret))
        _refuse_equal_credentials(entities)
        return self._resource((app.name, ""), entities, self._declarations.app_targets())

    def _secret(self, name: str) -> str:
        if not self._secrets:
            raise StepFailed(f"the secret {name} is needed, and this host has no folder for secrets")
        return self._secrets.read(name)

    def observe(self) -> Iterable[Resource]:
        """Raises Unavailable."""
        entities = self._kong.observe(self._host) if self._kong else ()
        if entities is not self._observed[0] or self._tasks:
            by_owner: defaultdict[Owner, list[Entity]] = defaultdict(list)
            for entity in entities:
                by_owner[entity.owner].append(entity)
            self._found = {owner: (some, self._of_entities(owner, some)) for owner, some in by_owner.items()}
            self._observed = entities, [resource for _, resource in self._found.values()]
        return self._observed[1]

    def _of_entities(self, owner: Owner, entities: Sequence[Entity]) -> Resource:
        before, resource = self._found.get(owner, ((), None))
        if resource and before == entities and not self._tasks:
            return resource
        targets = [_target(entity) for entity in entities if is_instance_target(entity)]
        targets = self._tasks.merged(targets) if self._tasks else targets
        counting = [entity for entity in entities if is_counting(entity.fields)]
        others = [entity for entity in entities if not (is_instance_target(entity) or entity in counting)]
        found = self._resource(owner, others, sorted(targets, key=lambda target: target["instance"]))
        if not counting:
            return found
        counts = self._kong and self._kong.counting.is_told(counting[0], service_name(owner))
        return found.with_spec(counted=counted_by(counting[0].fields) if counts else Counted())

    def prepare(self, changes: Sequence[Change]) -> None:
        """Of a route that is switched more than once on the way, its last state is looked at.

        One that only gets other targets is not: Kong has all else of it, and the targets are of our own making.
        """
        last = {change.resource.key: change for change in changes}
        if changed := [change for change in last.values() if not _is_switched(change)]:
            if self._tasks:  # which are not there yet
                changed = [_without_targets(change) for change in changed]
            kong, owners, entities = self._to_apply(changed)
            kong.prepare(self._host, owners, entities)

    def apply(self, changes: Sequence[Change]) -> None:
        kong, owners, entities = self._to_apply(changes)
        kong.apply(self._host, owners, entities)

    def _to_apply(self, changes: Iterable[Change]) -> tuple[Kong, set[Owner], list[Entity]]:
        """Kong, whose of its entities changes replace, and by what.  Raises Unavailable on a host without one."""
        if not self._kong:
            raise Unavailable("this host has no Kong", "set `kong` in its settings")
        changes = list(changes)
        owners = {(change.resource.app, change.resource.service) for change in changes}
        entities = [entity for change in changes if change.to for entity in self._entities(change.to)]
        return self._kong, owners, sorted(entities, key=lambda entity: entity.rank)

    def _entities(self, route: Resource) -> list[Entity]:
        owner = route.app, route.service
        wanted: Sequence[Target] = route.spec["targets"]
        targets = self._declarations.targets(owner, self._tasks.resolved(wanted) if self._tasks else wanted)
        counting: list[Entity] = []
        if self._kong and (counted := route.spec.get("counted")):
            plugin = self._kong.counting.plugin(service_name(owner), counted)
            counting = self._declarations.counting(owner, plugin)
        return [*entities_of(route), *targets, *counting]

    def _resource(self, owner: Owner, entities: Sequence[Entity], targets: Sequence[Target]) -> Resource:
        app, service = owner
        fields: EntityFields = declared_fields(entities)
        if fields != self._fields.get(owner):
            self._fields[owner] = fields
        spec = RouteSpec(entities=self._fields[owner], targets=targets)
        return Resource(self.name, f"{app}.{service}" if service else app, app, service, spec, tuple(entities))


def _without_targets(change: Change) -> Change:
    return replace(change, to=change.to and change.to.with_spec(targets=[]))


def _is_switched(change: Change) -> bool:
    """Does the route only get other targets?"""
    return bool(change.was and change.to and change.was.spec["entities"] == change.to.spec["entities"])


def _refuse_equal_credentials(entities: Iterable[Entity]) -> None:
    """Raises StepFailed if two consumers have the same credential, which only its text shows."""
    names = {it.id: str(it.fields.get("username") or it.fields.get("custom_id")) for it in entities}
    owners: dict[Key, str] = {}
    for entity in entities:
        if "consumer" in entity.fields and entity.type != "plugins":
            name = names.get(entity.reference("consumer"), "?")
            other = owners.setdefault(entity.key, name)
            if other != name:
                type = entity.type.removesuffix("s")
                raise StepFailed(f"the consumers {other} and {name} have the same {type}", "give each its own")


def _target(entity: Entity) -> Target:
    address, weight = entity.fields["target"], entity.fields["weight"]
    target = Target(instance=tag_value(entity.tags, "instance"), address=str(address))
    return target if weight == USUAL_WEIGHT else {**target, "weight": int(str(weight))}


def connect(tools: Tools) -> Routes:
    tasks = Serving(tools.engine, tools.is_ready) if isinstance(tools.engine, Manager) else None
    return Routes(tools.kong, tools.host, tools.address, secrets=tools.secrets, tasks=tasks)
