"""Which of the hosts that share one Kong says what they share: the one that follows the newest commit.  Pure.

Each host says what its own targets are, and nobody else.  Routes, services and the rest are said once for all hosts.
During a roll-out these follow different commits; so what is shared of a service carries, in a tag of its upstream, who
said it, at which commit, and a digest of what was said.  A host that follows an older commit, or that is held at an
older version, takes what is shared as it finds it.  No host keeps a memory of another, and none waits for one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import Json, Resource, Revision
from gitops_mvd.kong.entities import Entity, as_json, tagged

SAID = "said"  # the tag
HELD = "held"


class Commits(Protocol):
    """What is known of the branch that is followed."""

    def committed(self, revision: Revision) -> int:
        """When it was committed, in seconds since 1970, by the clock of whoever did."""
        ...

    def builds_on(self, revision: Revision, commit: str) -> bool:
        """Is that commit an earlier one of the same branch, as far as can be told here?"""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """Who said what is shared of a service: the host, at which commit, committed when; `held` is an older version."""

    at: int
    commit: str
    host: str
    digest: str
    held: bool = False

    def __str__(self) -> str:
        return f"{self.at} {self.commit or '-'} {self.host} {self.digest}{f' {HELD}' if self.held else ''}"

    @classmethod
    def read(cls, text: str) -> Said | None:
        """What a tag says; None for what is none of ours, or of a version to come."""
        words = text.split(" ")
        if not (4 <= len(words) <= 5 and words[0].isascii() and words[0].isdecimal()):
            return None
        at, commit, host, digest, *held = words
        return cls(int(at), commit, host, digest, HELD in held)


class Precedence:
    """What this host may say of what all hosts share, under the name `shared`.

    It is told by `follow` which commit it speaks for.
    """

    def __init__(self, shared: str, host: str, commits: Commits) -> None:
        self.shared = shared
        self.host = host
        self._commits = commits
        self._revision: Revision | None = None
        self._at = 0
        self._fetches = 0
        self._met: dict[str, int] = {}  # a commit that is unknown here -> how often we had fetched when we met it

    def follow(self, revision: Revision, *, fetched: bool) -> None:
        """From now on speak for this commit; it was `fetched` just now, or is only the last one that is known."""
        if not self._revision or revision.commit != self._revision.commit:
            self._at = self._commits.committed(revision)
            self._met.clear()
        self._revision = revision
        self._fetches += fetched

    @property
    def cache_key(self) -> object:
        """Changes where a plan that was made before may be another one now."""
        return self._revision and self._revision.commit, self._fetches if self._met else 0

    def says(self, digest: str, *, held: bool) -> Said:
        commit = self._revision.commit if self._revision else ""
        return Said(self._at, commit, self.host, digest, held)

    def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
        """The route to be had: what is shared of it is as it was found where another host has the say.

        `held` is a version that is older than the commit.  Its payload says in whose name it is written.  Raises
        StepFailed where two hosts read two different things out of one commit.
        """
        mine = self.says(digest_of(wanted.spec["entities"]), held=held)
        stamped = replace(wanted, payload=stamp(wanted.payload, anchor_of(wanted.name), mine))
        if not found or found.spec["entities"] == wanted.spec["entities"]:
            return stamped
        yields = self.yields(mine, said_of(found.payload, anchor_of(found.name)), wanted.name)
        return stamped.with_spec(entities=found.spec["entities"]) if yields else stamped

    def is_set_by_other_host(self, route: Resource) -> bool:
        """Is what is shared of it what another host has said, and nothing that was changed by hand?"""
        said = said_of(route.payload, anchor_of(route.name))
        return bool(said and said.host != self.host and said.digest == digest_of(route.spec["entities"]))

    def yields(self, mine: Said, theirs: Said | None, what: str) -> bool:
        """Does this host take what is there and differs from what it would say?

        A commit that is newer by its time counts as such until this host has fetched once more: where the branch does
        not have it then, it was taken away again, or a clock was wrong, and it holds nobody up.
        """
        if theirs is None or theirs.digest == mine.digest or theirs.host == mine.host:
            return False
        if mine.held:
            return True
        if theirs.commit == mine.commit:
            if theirs.held:
                return False
            raise StepFailed(
                f"{what}: {theirs.host} has other routes, plugins or the like at the same commit",
                "hosts that share a gateway share them: x-kong must be the same on each of them",
            )
        if theirs.at < mine.at or not self._revision or self._commits.builds_on(self._revision, theirs.commit):
            return self._revision is None
        return self._met.setdefault(theirs.commit, self._fetches) == self._fetches


def anchor_of(name: str) -> str:
    """The name of the upstream that carries what is said of a route, or of the gateway's own entities."""
    return f"mvd.{name}"


def anchor_in(entities: Iterable[Entity], anchor: str) -> Entity | None:
    return next((it for it in entities if it.type == "upstreams" and it.fields.get("name") == anchor), None)


def said_of(entities: Iterable[Entity], anchor: str) -> Said | None:
    there = anchor_in(entities, anchor)
    return Said.read(tagged(there.tags, SAID)) if there else None


def stamp(entities: Iterable[Entity], anchor: str, said: Said) -> tuple[Entity, ...]:
    """The entities, with the anchor among them carrying who says so."""
    return tuple(
        Entity(it.type, {**it.fields, "tags": [*unsaid(it.tags), f"{SAID}:{said}"]}, it.kept)
        if it.type == "upstreams" and it.fields.get("name") == anchor
        else it
        for it in entities
    )


def unsaid(tags: Iterable[str]) -> Sequence[str]:
    return [tag for tag in tags if not tag.startswith(f"{SAID}:")]


def digest_of(entities: Mapping[str, Json]) -> str:
    """Of what `normal` tells of entities."""
    return hashlib.sha256(as_json(entities).encode()).hexdigest()[:12]
