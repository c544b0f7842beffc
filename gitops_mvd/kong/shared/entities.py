"""What is declared, as the entities that all hosts share and those that one host owns.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gitops_mvd.core.route import Target
from gitops_mvd.core.xkong import XKong
from gitops_mvd.kong.counted import is_counting
from gitops_mvd.kong.declare import (
    Declarations,
    counting_plugin,
    declared,
    entity_id,
    service_entities,
    service_name,
    target_entity,
)
from gitops_mvd.kong.entities import (
    MANAGED_TAG,
    Entity,
    Fields,
    Key,
    Owner,
    is_instance_target,
    tag_value,
    tags_of,
)

CLAIM_PORT = 1  # of the target without a service behind it; its weight is 0, so Kong sends it no request


@dataclass
class OwnerEntities:
    """The entities of one service, or of the folder `kong/`: those that all hosts share, and those of this host.

    Of a host are its targets and, while it judges a canary, the plugin by which Kong tells it of the requests.
    `judging` is that plugin of another host.
    """

    shared: dict[Key, Entity] = field(default_factory=dict)
    own: dict[Key, Entity] = field(default_factory=dict)
    judging: Entity | None = None

    @property
    def is_counted(self) -> bool:
        """Does, or shall, Kong tell this host of the requests?"""
        return any(is_counting(entity.fields) for entity in self.own.values())

    @property
    def targets(self) -> list[Entity]:
        return [entity for entity in self.own.values() if is_instance_target(entity)]


def by_owner(entities: Iterable[Entity], host: str) -> Mapping[Owner, OwnerEntities]:
    """The entities as that host sees them."""
    found: defaultdict[Owner, OwnerEntities] = defaultdict(OwnerEntities)
    for entity in entities:
        of_owner = found[entity.owner]
        if is_counting(entity.fields) and tag_value(entity.tags, "host") != host:
            of_owner.judging = entity
        elif is_counting(entity.fields) or is_instance_target(entity):
            of_owner.own[entity.key] = entity
        else:
            of_owner.shared[entity.key] = entity
    return found


class SharedDeclarations(Declarations):
    """The entities of what is declared, for a Kong that hosts share under that name; `address` is that of this host."""

    def __init__(self, shared: str, host: str, address: str) -> None:
        super().__init__(host)
        self._shared = shared
        self._address = address

    def of_service(self, owner: Owner, kong: XKong) -> list[Entity]:
        return [self._for_all_hosts(entity) for entity in service_entities(self._shared, owner, kong)]

    def of_app(self, app: str, document: Mapping[str, Iterable[Fields]]) -> list[Entity]:
        """Those of the folder `kong/`, with an upstream for the hosts' claims that nothing leads to."""
        upstreams: list[Fields] = [{"name": service_name((app, ""))}, *document.get("upstreams", ())]
        entities = declared(self._shared, {**document, "upstreams": upstreams}, [f"app:{app}"])
        return [self._for_all_hosts(entity) for entity in entities]

    def app_targets(self) -> list[Target]:
        """The claim of this host."""
        return [{"instance": self._host, "address": f"{self._address}:{CLAIM_PORT}", "weight": 0}]

    def targets(self, owner: Owner, targets: Iterable[Target]) -> list[Entity]:
        """The targets of this host; without a service, its claim."""
        app, service = owner
        upstream = entity_id(self._shared, "upstreams", service_name(owner))
        tags = [f"shared:{self._shared}", f"app:{app}", *([f"service:{service}"] if service else ())]
        return [target_entity(self._host, upstream, target, tags) for target in targets]

    def counting(self, owner: Owner, plugin: Fields) -> list[Entity]:
        """In the index of what is shared: each host looks whether another one judges.

        It lacks the tag `shared:`, as only one host may delete it, and older versions of gitops-mvd take it for theirs.
        """
        renamed = {f"index:{self._host}": index_tag(self._shared)}
        return [
            it.with_fields({**it.fields, "tags": [renamed.get(tag, tag) for tag in it.tags]})
            for it in counting_plugin(self._host, self._shared, owner, plugin)
        ]

    def _for_all_hosts(self, entity: Entity) -> Entity:
        renamed = {
            f"host:{self._shared}": f"shared:{self._shared}",
            f"index:{self._shared}": index_tag(self._shared),
        }
        return entity.with_fields({**entity.fields, "tags": [renamed.get(tag, tag) for tag in entity.tags]})


def index_tag(shared: str) -> str:
    """The tag of all shared entities but services, routes and upstreams."""
    return f"index:shared:{shared}"


def is_shared(fields: Fields, shared: str) -> bool:
    """Is an entity with these fields managed, and shared by all hosts under that name?"""
    tags = tags_of(fields)
    is_managed = MANAGED_TAG in tags and f"shared:{shared}" in tags and bool(tag_value(tags, "app"))
    return is_managed and not tag_value(tags, "instance")
