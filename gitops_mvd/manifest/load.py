"""The repository at one commit → the apps of one host, or all that is wrong with it.  Pure."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gitops_mvd.errors import ManifestError
from gitops_mvd.manifest.compose import SERVICE
from gitops_mvd.manifest.composition import SECTIONS, Composition, env_of
from gitops_mvd.manifest.deploy import runs_on
from gitops_mvd.manifest.fleet import FILE, Fleet, read_fleet
from gitops_mvd.manifest.gateway import FOLDER, NAME, read_gateway
from gitops_mvd.manifest.network import Port, fixed, overlap
from gitops_mvd.manifest.place import Place, fields
from gitops_mvd.manifest.project import read_project
from gitops_mvd.manifest.service import assemble, replicas
from gitops_mvd.manifest.yamltree import Found, Node, Sink, tell
from gitops_mvd.model import App, HostFacts, Problem, Service
from gitops_mvd.ports import Tree

APPS = "apps"
COMPOSE = "compose.yaml"
_APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9._-]{1,63}")

Parsed = dict[str, tuple[Node | None, Sink]]


@dataclass(frozen=True)
class Reading:
    """What one app's files say for one host: every mistake in them, and the services that run there."""

    app: App
    found: tuple[Found, ...]
    here: frozenset[str]
    elsewhere: frozenset[str]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The mistakes that matter on this host: none in a service that runs elsewhere."""
        if self.elsewhere and not self.here:
            return ()
        return tuple(sorted({it.problem for it in self.found if not self._elsewhere(it)}))

    def _elsewhere(self, found: Found) -> bool:
        return found.path[:1] == ("services",) and len(found.path) > 1 and found.path[1] in self.elsewhere


@dataclass(frozen=True)
class Remembered:
    """A reading, and what it was made from."""

    facts: HostFacts
    read: Mapping[str, str]  # path -> oid
    reading: Reading


Cache = MutableMapping[tuple[str, str], Remembered]
"""Owned by the caller, empty to begin with: by host and app, what need not be read again."""


class _Recording:
    """A Tree that notes what was read, and the object ids of that."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.seen: dict[str, str] = {}

    def read(self, path: str) -> bytes:
        self.oid(path)
        return self.tree.read(path)

    def names(self, folder: str) -> Sequence[str]:
        self.oid(folder)
        return self.tree.names(folder)

    def oid(self, path: str) -> str:
        self.seen[path] = self.tree.oid(path)
        return self.seen[path]


def load(
    tree: Tree, facts: HostFacts, cache: Cache | None = None
) -> tuple[tuple[App, ...], Mapping[str, tuple[Problem, ...]]]:
    """The apps with services on that host, and the broken ones by name with every problem.  Raises nothing.

    With a `cache`, an app is read again only if one of the files that it was read from, or a fact, has changed.
    """
    apps: list[App] = []
    broken: dict[str, tuple[Problem, ...]] = {}
    for name in app_names(tree):
        reading = _cached(tree, name, facts, cache)
        if reading.problems:
            broken[name] = reading.problems
        elif reading.app.services or reading.app.gateway:
            apps.append(reading.app)
    return tuple(apps), broken


def validate(tree: Tree) -> list[Problem]:
    """Every mistake in the repository, for whichever host; sorted, each once.  Raises nothing."""
    try:
        fleet = read_fleet(tree)
    except ManifestError as error:
        return sorted({*error.problems, *_problems(tree, Fleet())})
    return sorted({*_problems(tree, fleet), *_strangers(tree, fleet)})


def app_names(tree: Tree) -> list[str]:
    """The apps of the repository."""
    folders = [name.rstrip("/") for name in tree.names(APPS) if name.endswith("/")]
    apps = [name for name in folders if any(_compose_like(file) for file in tree.names(f"{APPS}/{name}"))]
    return [*apps, NAME] if tree.names(FOLDER) and NAME not in apps else apps


def _compose_like(file: str) -> bool:
    return re.fullmatch(r"(docker-)?compose(\..*)?\.ya?ml", file) is not None


def _problems(tree: Tree, fleet: Fleet) -> set[Problem]:
    """What is wrong for any host; a service that runs nowhere is judged by all of them."""
    problems: set[Problem] = set()
    parsed: Parsed = {}
    for name in app_names(tree):
        readings = [read_app(tree, name, facts, parsed) for facts in fleet.hosts.values() or [HostFacts("localhost")]]
        placed = frozenset[str]().union(*(reading.here for reading in readings))
        for reading in readings:
            problems.update(reading.problems)
            problems.update(
                it.problem
                for it in reading.found
                if len(it.path) > 1 and it.path[0] == "services" and it.path[1] not in placed
            )
            if not placed:
                problems.update(it.problem for it in reading.found)
    return problems


def _strangers(tree: Tree, fleet: Fleet) -> set[Problem]:
    """Override files that no host would ever read, for a typing error in their name."""
    if fleet.open:
        return set()
    known = {f"compose.{label}-{value}.yaml" for facts in fleet.hosts.values() for label, value in facts.labels.items()}
    known |= {COMPOSE, "compose.override.yaml"}
    return {
        Problem(
            f"{APPS}/{app}/{file}",
            1,
            "",
            f"no host of {FILE} has that label: an override is named compose.<label>-<value>.yaml",
        )
        for app in app_names(tree)
        for file in tree.names(f"{APPS}/{app}")
        if _compose_like(file) and file.startswith("compose.") and file.endswith(".yaml") and file not in known
    }


def _cached(tree: Tree, name: str, facts: HostFacts, cache: Cache | None) -> Reading:
    if cache is None:
        return read_app(tree, name, facts, {})
    known = cache.get((facts.name, name))
    if known and known.facts == facts and all(tree.oid(path) == oid for path, oid in known.read.items()):
        return known.reading
    recording = _Recording(tree)
    recording.oid(FOLDER if name == NAME else f"{APPS}/{name}")
    reading = read_app(recording, name, facts, {})
    cache[facts.name, name] = Remembered(facts, recording.seen, reading)
    return reading


def read_app(tree: Tree, name: str, facts: HostFacts, parsed: Parsed) -> Reading:
    """One app for one host; `parsed` holds what was parsed of this tree already."""
    sink: Sink = []
    folder = f"{APPS}/{name}"
    if name == NAME and not tree.names(folder):
        gateway = read_gateway(tree, sink)
        return Reading(gateway, tuple(sink), frozenset(), frozenset())
    if name == NAME or not _APP_NAME.fullmatch(name):
        why = "is the name of what kong/ says" if name == NAME else "is no name of an app: a-z, 0-9, `_` and `-`"
        tell(sink, (), f"{folder}/{COMPOSE}", 1, f"the folder {name!r} {why}: rename it")
        return Reading(App(name), tuple(sink), frozenset(), frozenset())
    files = set(tree.names(folder))
    if COMPOSE not in files:
        other = min(file for file in files if _compose_like(file))
        tell(sink, (), f"{folder}/{other}", 1, f"there is no {COMPOSE} beside it: name the app's file so")
        return Reading(App(name), tuple(sink), frozenset(), frozenset())
    overrides = sorted({f"compose.{label}-{value}.yaml" for label, value in facts.labels.items()} & files)
    variables = env_of(tree, f"{folder}/.env", facts.variables, sink)
    paths = [f"{folder}/{file}" for file in (COMPOSE, *overrides)]
    node = Composition(tree, sink, parsed).load(paths, variables)
    if node is None:
        return Reading(App(name), tuple(sink), frozenset(), frozenset())
    return _read_tree(tree, name, facts, variables, Place(node, (), sink))


def _read_tree(tree: Tree, name: str, facts: HostFacts, variables: Mapping[str, str], top: Place) -> Reading:
    entries = top.entries()
    if "name" in entries and entries["name"].node.value not in (None, name):
        entries["name"].complain(f"must be {name}, as the folder is; it may be left out")
    sections = {
        section: entries[section]
        for section in SECTIONS
        if section in entries and entries[section].node.value is not None
    }
    project = read_project(name, tree, variables, sections)
    places = sections["services"].attempt(Place.entries) if "services" in sections else None
    if "services" not in sections:
        top.complain("has no `services`")
    drafts: dict[str, tuple[Place, dict[str, Any]]] = {}
    for service, place in (places or {}).items():
        if not _SERVICE_NAME.fullmatch(service):
            place.complain("is no name of a service: letters, digits, `.`, `_` and `-`")
        values = place.attempt(fields, SERVICE)
        if values is not None:
            drafts[service] = place, values
    here = {service for service, (_, values) in drafts.items() if _active(values, facts, variables)}
    services = [assemble(place, values, project) for place, values in drafts.values()]
    _dependencies(drafts, here)
    _host_ports({service: values for service, (_, values) in drafts.items() if service in here})
    running = [_linked(service, here) for service in services if service.name in here]
    app = App(
        name,
        tuple(running),
        networks=_used(project.networks.values(), {real for it in running for real in it.run.get("networks", ())}),
        volumes=_used(
            project.volumes.values(), {mount["source"] for it in running for mount in it.run.get("volumes", ())}
        ),
    )
    return Reading(app, tuple(top.sink), frozenset(here), frozenset(drafts.keys() - here))


def _active(values: Mapping[str, Any], facts: HostFacts, variables: Mapping[str, str]) -> bool:
    """Is it one for this host, switched on?"""
    profiles = set(values.get("profiles", ()))
    chosen = {word.strip() for word in variables.get("COMPOSE_PROFILES", "").split(",")}
    switched_on = not profiles or "*" in chosen or bool(profiles & chosen)
    return switched_on and replicas(values) > 0 and runs_on(values.get("deploy", {}), facts)


def _linked(service: Service, here: set[str]) -> Service:
    """A service without the optional dependencies that are not on this host."""
    kept = {name: condition for name, condition in service.depends_on.items() if name in here}
    return replace(service, depends_on=kept)


def _used(declared: Any, names: set[str]) -> dict[str, Any]:
    return {real: options for real, options in declared if real in names}


def _dependencies(drafts: Mapping[str, tuple[Place, Mapping[str, Any]]], here: set[str]) -> None:
    graph: dict[str, set[str]] = {}
    for service, (_, values) in drafts.items():
        graph[service] = set()
        for other, (at, condition, required) in values.get("depends_on", {}).items():
            if other not in drafts:
                at.complain(f"there is no service {other}")
                continue
            graph[service].add(other)
            if service in here and other not in here and required:
                at.complain(
                    f"{other} does not run on this host: place both on the same hosts, or say `required: false`"
                )
            ends = drafts[other][1].get("restart", "always") in ("no", "on-failure") or "restart_policy" in drafts[
                other
            ][1].get("deploy", {})
            if condition == "service_completed_successfully" and not ends:
                at.complain(f'{other} never completes, for it is always restarted: give it `restart: "no"`')
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        drafts[circle[0]][0].complain(f"depends on itself: {' → '.join(circle)}")


def _host_ports(values: Mapping[str, Mapping[str, Any]]) -> None:
    """No two services of one host may want the same port of it."""
    taken: dict[tuple[str, str], list[tuple[str, Port]]] = {}
    for service, some in values.items():
        for at, port in some.get("ports", ()):
            if not fixed(port):
                continue
            others = taken.setdefault((port["published"], port["protocol"]), [])
            if by := next((name for name, other in others if overlap(port["host_ip"], other["host_ip"])), None):
                at.complain(f"the port {port['published']} of the host is published by {by} already")
            others.append((service, port))
