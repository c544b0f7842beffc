"""Which of the hosts that share one Kong decides what they share: the one that follows the newest commit.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import Resource, Revision
from gitops_mvd.core.route import EntityFields
from gitops_mvd.kong.declare import service_name
from gitops_mvd.kong.entities import Entity, as_json, entities_of, tag_value

LAST_APPLIED_TAG = "said"
HELD = "held"


class Commits(Protocol):
    """What is known of the branch that is followed."""

    def committed(self, revision: Revision) -> int:
        """When it was committed, in seconds since 1970, by the clock of whoever did."""
        ...

    def builds_on(self, revision: Revision, commit: str) -> bool:
        """Is that commit an earlier one of the same branch, as far as is known here?"""
        ...


@dataclass(frozen=True, slots=True)
class LastApplied:
    """Which host last applied what is shared of a service, and at which commit; as text, a tag of its upstream.

    `at` is when that was committed, in seconds since 1970, `digest` that of what was applied.  A `held` one is an older
    version than the commit has.
    """

    at: int
    commit: str
    host: str
    digest: str
    held: bool = False

    def __str__(self) -> str:
        return f"{self.at} {self.commit or '-'} {self.host} {self.digest}{f' {HELD}' if self.held else ''}"

    @classmethod
    def parse(cls, text: str) -> LastApplied | None:
        """None for a text that is none, or of a later version of gitops-mvd."""
        words = text.split(" ")
        if not (4 <= len(words) <= 5 and words[0].isascii() and words[0].isdecimal()):
            return None
        at, commit, host, digest, *held = words
        return cls(int(at), commit, host, digest, HELD in held)


class Precedence:
    """What this host may change of what all hosts share, under the name `shared`.

    `follow` sets the commit for which it does.
    """

    def __init__(self, shared: str, host: str, commits: Commits) -> None:
        self.shared = shared
        self.host = host
        self._commits = commits
        self._revision: Revision | None = None
        self._at = 0
        self._fetches = 0
        self._fetches_at: dict[str, int] = {}  # commit unknown here -> fetches until it was seen in Kong first

    def follow(self, revision: Revision, *, fetched: bool) -> None:
        """From now on apply for this commit; it was `fetched` just now, or is only the last one that is known."""
        if not self._revision or revision.commit != self._revision.commit:
            self._at = self._commits.committed(revision)
            self._fetches_at.clear()
        self._revision = revision
        self._fetches += fetched

    @property
    def cache_key(self) -> object:
        """Changes where a plan that was made before may be another one now."""
        return self._revision and self._revision.commit, self._fetches if self._fetches_at else 0

    def applied(self, digest: str, *, held: bool) -> LastApplied:
        """What this host writes for content of that digest."""
        commit = self._revision.commit if self._revision else ""
        return LastApplied(self._at, commit, self.host, digest, held)

    def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
        """The route to apply: with the shared part as it was found, if another host decides that.

        `held` is a version that is older than the commit.  The payload says which host applies it.  Raises StepFailed
        if two hosts read different things out of one commit.
        """
        by_this_host = self.applied(digest_of(wanted.spec["entities"]), held=held)
        route = replace(wanted, payload=stamped(entities_of(wanted), _upstream_of(wanted), by_this_host))
        if not found or found.spec["entities"] == wanted.spec["entities"]:
            return route
        yields = self.yields(by_this_host, last_applied_in(entities_of(found), _upstream_of(found)), wanted.name)
        return route.with_spec(entities=found.spec["entities"]) if yields else route

    def is_set_by_other_host(self, route: Resource) -> bool:
        """Is the shared part of a route what another host has applied, and so not changed by hand?"""
        in_kong = last_applied_in(entities_of(route), _upstream_of(route))
        return bool(in_kong and in_kong.host != self.host and in_kong.digest == digest_of(route.spec["entities"]))

    def yields(self, by_this_host: LastApplied, in_kong: LastApplied | None, what: str) -> bool:
        """Does this host leave what is in Kong, though it would apply something else?

        A commit with a newer time counts as newer until this host has fetched once more.  If the branch does not have
        it by then, it was removed from the branch, or a clock was wrong, and it holds nobody up.
        """
        if in_kong is None or in_kong.digest == by_this_host.digest or in_kong.host == by_this_host.host:
            return False
        if by_this_host.held:
            return True
        if in_kong.commit == by_this_host.commit:
            if in_kong.held:
                return False
            raise StepFailed(
                f"{what}: {in_kong.host} has other routes, plugins or the like at the same commit",
                "hosts that share a Kong share them: x-kong must be the same on each of them",
            )
        if (
            in_kong.at < by_this_host.at
            or not self._revision
            or self._commits.builds_on(self._revision, in_kong.commit)
        ):
            return self._revision is None
        return self._fetches_at.setdefault(in_kong.commit, self._fetches) == self._fetches


def _upstream_of(route: Resource) -> str:
    """The name of the upstream that says which host last applied a route."""
    return service_name((route.app, route.service))


def upstream_named(name: str, entities: Iterable[Entity]) -> Entity | None:
    return next((it for it in entities if it.type == "upstreams" and it.fields.get("name") == name), None)


def last_applied_in(entities: Iterable[Entity], upstream: str) -> LastApplied | None:
    """What the upstream of that name says; None if it says nothing, or is missing."""
    found = upstream_named(upstream, entities)
    return LastApplied.parse(tag_value(found.tags, LAST_APPLIED_TAG)) if found else None


def stamped(entities: Iterable[Entity], upstream: str, last_applied: LastApplied) -> tuple[Entity, ...]:
    """The entities, with the upstream of that name saying which host applies them."""
    tag = f"{LAST_APPLIED_TAG}:{last_applied}"
    return tuple(
        it.with_fields({**it.fields, "tags": [*without_last_applied(it).tags, tag]})
        if it.type == "upstreams" and it.fields.get("name") == upstream
        else it
        for it in entities
    )


def without_last_applied(entity: Entity) -> Entity:
    tags = [tag for tag in entity.tags if not tag.startswith(f"{LAST_APPLIED_TAG}:")]
    return entity.with_fields({**entity.fields, "tags": tags})


def digest_of(entities: EntityFields) -> str:
    """The digest of the declared fields of what is shared."""
    return hashlib.sha256(as_json(entities).encode()).hexdigest()[:12]
