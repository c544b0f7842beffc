"""One Kong with a database for many hosts: each owns its targets, and all of them share the rest.

A target is a host's claim to what is shared of a service.  It is made first and given up last, so what is shared is
there as long as any host needs it, and goes with the last one.  Where several hosts write at once, each looks again
until it finds what it meant; who has the say is told by `precedence.py`.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence, Set
from dataclasses import dataclass, field

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Json
from gitops_mvd.kong import database, declare
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.compare import normal, same
from gitops_mvd.kong.database import TURN
from gitops_mvd.kong.entities import DEFAULT_WEIGHT, LISTED, OWNED, Entity, is_ours, tagged
from gitops_mvd.kong.shared.precedence import Precedence, Said, anchor_in, anchor_of, digest_of, said_of, stamp, unsaid

LEAVING = "leaving"  # the tag of a claim that is about to be given up
CLAIM = 1  # the port of a claim to what no service is behind; its weight is 0, so nobody is led there
ROUNDS = 5

Key = tuple[str, str]
Owner = tuple[str, str]


# ---- what is declared ------------------------------------------------------------------------------------------------


def of_service(shared: str, app: str, service: str, kong: Json) -> list[Entity]:
    """As `declare.of_service`, of all hosts."""
    return [_of_all(entity, shared) for entity in declare.of_service(shared, app, service, kong)]


def of_gateway(shared: str, app: str, document: Mapping[str, Iterable[Json]]) -> list[Entity]:
    """As `declare.declared`, of all hosts, with an upstream that nothing leads to: for claims, and for who said so."""
    anchor = {"name": anchor_of(app)}
    document = {**document, "upstreams": [anchor, *document.get("upstreams", ())]}
    return [_of_all(entity, shared) for entity in declare.declared(shared, document, [f"app:{app}"])]


def of_targets(shared: str, host: str, app: str, service: str, targets: Iterable[Json]) -> list[Entity]:
    """As `declare.of_targets`, of one host; what is no service's has a claim in place of targets."""
    anchor = anchor_name((app, service))
    upstream = declare.declared(shared, {"upstreams": [{"name": anchor}]}, [])[0].id
    tags = [f"shared:{shared}", f"app:{app}", *([f"service:{service}"] if service else ())]
    return [
        entity
        for target in targets
        for entity in declare.declared(
            host,
            {
                "targets": [
                    {
                        "target": target["address"].split(" ")[0],
                        "weight": DEFAULT_WEIGHT if service else 0,
                        "upstream": {"id": upstream},
                    }
                ]
            },
            [*tags, f"instance:{target['instance']}"],
        )
    ]


def claim(host: str, address: str) -> Json:
    """What a host has in place of targets where there is no service."""
    return {"instance": host, "address": f"{address}:{CLAIM} (weight 0)"}


def anchor_name(owner: Owner) -> str:
    app, service = owner
    return anchor_of(f"{app}.{service}" if service else app)


def _of_all(entity: Entity, shared: str) -> Entity:
    renamed = {f"host:{shared}": f"shared:{shared}", f"index:{shared}": _index(shared)}
    return Entity(entity.type, {**entity.fields, "tags": [renamed.get(tag, tag) for tag in entity.tags]})


def _index(shared: str) -> str:
    return f"index:shared:{shared}"


def owner_of(entity: Entity) -> Owner:
    return tagged(entity.tags, "app"), tagged(entity.tags, "service")


# ---- what there is ---------------------------------------------------------------------------------------------------


@dataclass
class Holding:
    """What there is of one service, or of the gateway: shared by all hosts, and this host's own targets."""

    shared: dict[Key, Entity] = field(default_factory=dict)
    own: dict[Key, Entity] = field(default_factory=dict)


class _MovedOn(Exception):
    """Another host has changed meanwhile what this one is about to write."""


class Store(database.Store):
    """What a Kong with a database holds, as one of the hosts that share it sees it."""

    def __init__(self, admin: Admin, written: MutableMapping[str, float], precedence: Precedence) -> None:
        super().__init__(admin, written)
        self._precedence = precedence
        self._shared = precedence.shared
        self._lost: tuple[Set[str], Sequence[str]] = (frozenset(), ())  # own targets that no upstream of ours has
        self._written_to: set[str] = set()  # upstreams the targets of which are other ones now
        self._payloads: dict[Owner, tuple[Entity, ...]] = {}

    def look(self, host: str) -> list[Entity]:
        """What is shared of those services of which the host has a target, and its targets: the same list while it is.

        A call each for services, routes, upstreams, the two indexes, and every other type that the first one tells of.
        """
        there = self._holdings(host)
        mine = (held for owner, held in there.items() if held.own or self._is_begun(host, owner, held))
        found = [it for held in mine for it in (*held.shared.values(), *held.own.values())]
        with self._lock:
            if found != self._found[0]:
                self._found = found, sorted(found, key=lambda entity: entity.rank)
            return self._found[1]

    def _is_begun(self, host: str, owner: Owner, held: Holding) -> bool:
        """Did this host end before its claim to the upstream, which is made first?  Then nobody else sees to it."""
        said = said_of(held.shared.values(), anchor_name(owner))
        if not said or said.host != host or len(held.shared) > 1:
            return False
        return not self._is_claimed(next(iter(held.shared.values())).id, host)

    def payload(self, owner: Owner) -> tuple[Entity, ...]:
        """What is shared of a service, as it was seen last."""
        return self._payloads.get(owner, ())

    def _holdings(self, host: str) -> dict[Owner, Holding]:
        index = self._made_of(f"/tags/{database._quoted(_index(self._shared))}", database._by_type)
        types = [*LISTED, *sorted(index.keys() - {"targets"})]
        shared = [entity for type in types for entity in self._of_all(type)]
        mine = self._made_of(f"/tags/{database._quoted(f'index:{host}')}", database._by_type).get("targets", set())
        upstreams = [entity.id for entity in shared if entity.type == "upstreams"]
        with self._lock:
            targets = self._find_targets(host, upstreams, mine | index.get("targets", set()))
        there: defaultdict[Owner, Holding] = defaultdict(Holding)
        for entity in shared:
            there[owner_of(entity)].shared[entity.type, entity.id] = entity
        for target in targets:
            held = there[owner_of(target)]
            (held.own if _is_own(target) else held.shared)["targets", target.id] = target
        self._payloads = {owner: tuple(held.shared.values()) for owner, held in there.items()}
        return there

    def _of_all(self, type: str) -> list[Entity]:
        wanted = f"shared:{self._shared}"

        def ours(entries: Iterable[Json]) -> list[Entity]:
            return [Entity(type, fields, kept=True) for fields in entries if _is_shared(fields, self._shared)]

        return self._made_of(database._path(type), ours, tags=f"{OWNED},{wanted}")

    def _find_targets(self, host: str, upstreams: Sequence[str], ids: set[str]) -> list[Entity]:
        """This host's targets, and those that all share, among the upstreams; these are read until all are found."""
        for upstream in self._targets.keys() - set(upstreams):
            del self._targets[upstream]
        known = {upstream: {target.id for target in there} for upstream, there in self._targets.items()}
        stale = {upstream for upstream, there in known.items() if not there <= ids} | self._written_to
        missing = ids - {id for upstream, there in known.items() if upstream not in stale for id in there}
        self._written_to = set()
        if not stale and self._lost == (missing, upstreams):
            missing = set()  # looked for in all of them before
        for upstream in sorted(upstreams, key=lambda upstream: (upstream not in stale, upstream in known)):
            if upstream in stale or missing:
                missing -= {target.id for target in self._read_targets(host, upstream)}
        if missing:
            self._lost = frozenset(missing), upstreams
        elif not stale and not next(self._looks) % TURN and self._targets:
            self._read_targets(host, next(iter(self._targets)))
        return [target for upstream in upstreams for target in self._targets.get(upstream, ())]

    def _read_targets(self, host: str, upstream: str) -> list[Entity]:
        there = self._admin.entries(f"/upstreams/{upstream}/targets")
        found = [
            Entity("targets", one, kept=True) for one in there if is_ours(one, host) or _is_shared(one, self._shared)
        ]
        self._targets.pop(upstream, None)
        if found:
            self._targets[upstream] = found
        return found

    # ---- changing it -------------------------------------------------------------------------------------------------

    def bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make this host's targets that are meant be exactly those in `entities`, and see to what is shared of them.

        Looks again until it finds it so; raises Unavailable where other hosts never let it.
        """
        for _ in range(ROUNDS):
            if not self._bring(host, is_meant, entities):
                return
        raise Unavailable("other hosts are changing the same things in Kong all the time")

    def _bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> bool:
        """One round; was there anything to do?"""
        there = self._holdings(host)
        wanted: defaultdict[Owner, Holding] = defaultdict(Holding)
        for entity in entities:
            held = wanted[owner_of(entity)]
            (held.own if tagged(entity.tags, "instance") else held.shared)[entity.type, entity.id] = entity
        leaving = [
            owner
            for owner, held in there.items()
            if owner not in wanted
            and any(map(is_meant, (held.own or held.shared).values()))
            and (held.own or self._is_begun(host, owner, held))
        ]
        all_works = (Work(owner, held, there.get(owner, Holding()), self._precedence) for owner, held in wanted.items())
        works = [work for work in all_works if work]
        for work in works:
            for entity in work.put:
                self._admin.check(entity)
        for work in works:
            self._refuse_clashes(host, work.put, work.new, work.gone)
        try:
            for work in works:
                with contextlib.suppress(_MovedOn):
                    self._do(work)
            for owner in leaving:
                self._leave(host, owner, there[owner])
        finally:
            left = (target for owner in leaving for target in there[owner].own.values())
            with self._lock:
                self._written_to |= {work.upstream for work in works} | {_upstream_of(target) for target in left}
        return bool(works or leaving)

    def _is_mine(self, fields: Json, host: str) -> bool:
        return _is_shared(fields, self._shared)

    def _do(self, work: Work) -> None:
        for number, entity in enumerate(work.put):
            if number and not _is_own(entity):
                self._require_still(work)
            try:
                self._put(entity)
            except StepFailed:  # which may be because what it refers to is gone
                self._require_still(work)
                raise
        self._wait_for(
            [it for it in work.new if it.type == "targets" and it.fields.get("weight", DEFAULT_WEIGHT)], work.gone
        )
        for entity in work.gone:
            if not _is_own(entity):
                self._require_still(work)
            self._delete(entity)

    def _require_still(self, work: Work) -> None:
        """Raise _MovedOn where another host has meanwhile said something else, or taken away what is shared."""
        there = self._admin.get(f"/upstreams/{work.upstream}")
        said = Said.read(tagged((there or {}).get("tags") or (), "said"))
        if there is None or (said and work.said and said.digest != work.said.digest):
            raise _MovedOn

    def _leave(self, host: str, owner: Owner, held: Holding) -> None:
        """Give up the targets of this host, and what is shared of the service where no other host has any.

        The last target is a claim that is being given up: nobody is led to it, no other host counts it, and whatever
        interrupts us, it is still there to be found, and to be continued with.
        """
        if not held.own:
            self._delete(next(iter(held.shared.values())))
            return
        own = sorted(held.own.values(), key=lambda target: (LEAVING not in target.tags, target.id))
        last, rest = own[0], own[1:]
        if LEAVING not in last.tags:
            self._put(Entity("targets", {**last.fields, "weight": 0, "tags": [*last.tags, LEAVING]}, kept=True))
        for target in rest:
            self._delete(target)
        upstream = _upstream_of(last)
        for entity in sorted(held.shared.values(), key=lambda it: (it.id != upstream, it.rank), reverse=True):
            if self._is_claimed(upstream, host):
                break
            self._delete(entity)
            if entity.id == upstream:
                return  # and with it went the claim
        self._delete(last)

    def _is_claimed(self, upstream: str, host: str) -> bool:
        """Has another host a target there that it does not give up?"""
        there = (target.get("tags") or () for target in self._admin.entries(f"/upstreams/{upstream}/targets"))
        return any(
            OWNED in tags and tagged(tags, "instance") and f"host:{host}" not in tags and LEAVING not in tags
            for tags in there
        )


class Work:
    """What there is to do about one service: what is put, the anchor and our claim to it first, then what goes."""

    def __init__(self, owner: Owner, wanted: Holding, found: Holding, precedence: Precedence) -> None:
        self._anchor = anchor_name(owner)
        anchor = anchor_in(wanted.shared.values(), self._anchor)
        assert anchor, "of what has targets, an upstream is wanted"
        self.upstream = anchor.id
        self.said = Said.read(tagged(anchor.tags, "said")) or precedence.says(
            digest_of(normal(wanted.shared.values())), held=False
        )
        put, gone = self._of_all(wanted.shared, found.shared, precedence)
        own = [it for key, it in wanted.own.items() if not same(it, found.own.get(key))]
        self.put = [*put, *own]
        self.put.sort(key=lambda it: (it.id != self.upstream, not _is_own(it), it.rank))
        self.gone = [*(it for key, it in found.own.items() if key not in wanted.own), *gone]
        self.gone.sort(key=lambda it: it.rank, reverse=True)
        there = found.shared.keys() | found.own.keys()
        self.new = [it for it in self.put if (it.type, it.id) not in there]

    def __bool__(self) -> bool:
        return bool(self.put or self.gone)

    def _of_all(
        self, wanted: Mapping[Key, Entity], found: Mapping[Key, Entity], precedence: Precedence
    ) -> tuple[list[Entity], list[Entity]]:
        gone = [it for key, it in found.items() if key not in wanted]
        is_same = all(key in found and same(_unsaid(it), _unsaid(found[key])) for key, it in wanted.items())
        mine, theirs = self.said, said_of(found.values(), self._anchor)
        takes_it = (is_same and not gone) or precedence.yields(mine, theirs, self._anchor.removeprefix("mvd."))
        if theirs and (takes_it or theirs.digest == mine.digest):
            self.said = theirs  # where it is not as it was said, it has to be mended
        if takes_it:
            return [], []
        stamped = stamp(wanted.values(), self._anchor, self.said)
        return [it for it in stamped if not same(it, found.get((it.type, it.id)))], gone


def _unsaid(entity: Entity) -> Entity:
    return Entity(entity.type, {**entity.fields, "tags": unsaid(entity.tags)}, entity.kept)


def _upstream_of(target: Entity) -> str:
    return str(target.fields["upstream"]["id"])


def _is_own(entity: Entity) -> bool:
    return entity.type == "targets" and bool(tagged(entity.tags, "instance"))


def _is_shared(fields: Json, shared: str) -> bool:
    tags = fields.get("tags") or ()
    ours = OWNED in tags and f"shared:{shared}" in tags and bool(tagged(tags, "app"))
    return ours and not tagged(tags, "instance")
