"""What each host of a fleet runs at a commit, as far as one commit differs from another.  Pure.

A host is told apart by what it answers (decision 59), and an app by the ids of its files, so that of a commit only the
apps that it touches are read, once for all hosts that read them alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.asked import Asked, ByAnswers
from gitops_mvd.manifest.fleet import Fleet
from gitops_mvd.manifest.kong_entities import FOLDER, GATEWAY_APP
from gitops_mvd.manifest.load import Recording, app_names
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import read_app

MOST_ALIKE = 5_000  # contents of a host that are shared
MOST_GENERATIONS = 40  # contents of one app that are remembered, the last ones


class _Placed(NamedTuple):
    """One app on the hosts that read it alike: its digest, "" if it is not there, and what the gateway asks for.

    `services` has their names, None if the app is broken there.
    """

    digest: str
    routed: bool
    routed_here: bool
    services: frozenset[str] | None


@dataclass
class _Generation:
    """One content of an app: the object ids of all that was read for it, and what it is on the hosts."""

    seen: dict[str, str]
    placed: ByAnswers[_Placed] = field(default_factory=ByAnswers)

    def holds(self, tree: Tree) -> bool:
        return all(tree.oid(path) == oid for path, oid in self.seen.items())


class Versions:
    """What was read of apps for the hosts of a fleet, remembered from commit to commit."""

    def __init__(self) -> None:
        self._generations: defaultdict[str, list[_Generation]] = defaultdict(list)
        self._alike: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}

    def at(self, tree: Tree, fleet: Fleet) -> VersionsAt:
        """The same at one commit.  Raises ManifestError if there are too many apps."""
        if len(self._alike) > MOST_ALIKE:
            self._alike.clear()  # nothing is lost by it but that hosts share what they have
        return VersionsAt(tree, fleet, {name: self._generation(tree, name) for name in app_names(tree)}, self._alike)

    def _generation(self, tree: Tree, name: str) -> _Generation:
        generations = self._generations[name]
        if not (found := next((it for it in generations if it.holds(tree)), None)):
            folders = (f"{APPS}/{name}", *([FOLDER] if name == GATEWAY_APP else []))
            generations.insert(0, found := _Generation({path: tree.oid(path) for path in folders}))
            del generations[MOST_GENERATIONS:]
        return found


@dataclass(frozen=True)
class VersionsAt:
    """What each host runs at one commit."""

    tree: Tree
    fleet: Fleet
    apps: Mapping[str, _Generation]
    alike: dict[tuple[tuple[str, str], ...], Mapping[str, str]]  # hosts that run the same share one mapping

    def of(self, host: str) -> Mapping[str, str]:
        """App -> the digest of what that host runs of it, or what is wrong with it; empty if the fleet lacks it."""
        if not (facts := self._facts(host)):
            return {}
        found = {name: self._placed(name, generation, facts) for name, generation in self.apps.items()}
        others = [it for name, it in found.items() if name != GATEWAY_APP]
        if any(it.routed for it in others) and not any(it.routed_here for it in others):
            found.pop(GATEWAY_APP, None)
        contents = {name: it.digest for name, it in found.items() if it.digest}
        return self.alike.setdefault(tuple(sorted(contents.items())), contents)

    def hosts(self) -> Mapping[str, bool]:
        """The hosts of the fleet, and whether each is drained; none without a `fleet.yaml`."""
        return {name: facts.drained for name, facts in self.fleet.hosts.items()}

    def services(self, app: str, host: str) -> frozenset[str] | None:
        """What that host runs of an app; None if the app is broken there."""
        facts, generation = self._facts(host), self.apps.get(app)
        try:
            return self._placed(app, generation, facts).services if facts and generation else frozenset()
        except ManifestError:  # it is too much to be read
            return None

    def _facts(self, host: str) -> HostFacts | None:
        return self.fleet.hosts.get(host) or (HostFacts(host) if self.fleet.open else None)

    def _placed(self, name: str, generation: _Generation, facts: HostFacts) -> _Placed:
        if known := generation.placed.find(facts):
            return known
        recording, asked = Recording(self.tree), Asked(facts)
        reading = read_app(recording, name, asked, {}, elsewhere_too=False)
        digest = str(reading.problems) if reading.problems else ""
        if not digest and (reading.app.services or reading.app.kong_entities):
            suspended = f" {reading.app.suspend.text}" if reading.app.suspend else ""
            digest = f"{reading.app.version}{suspended}"
        services = None if reading.problems else frozenset(service.name for service in reading.app.services)
        placed = _Placed(digest, reading.routed, reading.routed_here or bool(reading.problems), services)
        inside = f"{APPS}/{name}/"
        generation.seen |= {
            path: oid for path, oid in recording.seen.items() if not path.startswith(inside) or ".." in path
        }
        generation.placed.add(asked.answers, placed)
        return placed
