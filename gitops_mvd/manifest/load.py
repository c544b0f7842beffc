"""The repository at one commit → the apps of one host, or all that is wrong with it.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from gitops_mvd.config.tables import did_you_mean
from gitops_mvd.config.yamltree import mistakes
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import App, HostFacts, Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.app_files import COMPOSE, compose_files, is_compose_file, main_file, unread
from gitops_mvd.manifest.claims import Register
from gitops_mvd.manifest.composition import Parsed
from gitops_mvd.manifest.fleet import FILE as FLEET_FILE
from gitops_mvd.manifest.fleet import Fleet, read_fleet
from gitops_mvd.manifest.kong_entities import FOLDER, GATEWAY_APP
from gitops_mvd.manifest.placement import nowhere
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import Reading, read_app


@dataclass(frozen=True)
class Remembered:
    """A reading, and what it was made from."""

    facts: HostFacts
    seen: Mapping[str, str]  # path -> oid
    reading: Reading


Cache = MutableMapping[tuple[str, str], Remembered]
"""Owned by the caller, empty to begin with: by host and app, what need not be read again."""


class _Recording:
    """A Tree that notes what was asked of it, with the object ids of that."""

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

    def kind(self, path: str) -> str:
        self.oid(path)
        return self.tree.kind(path)


def load(
    tree: Tree, facts: HostFacts, cache: Cache | None = None
) -> tuple[tuple[App, ...], Mapping[str, tuple[Problem, ...]]]:
    """The apps with services on that host, and the broken ones by name with every problem.

    With a `cache`, an app is read again only if one of its files or a fact has changed.  Mistakes in files do not
    raise; exceptions of the Tree do.

    Of two apps that want the same port or route of the host, the one that is later in the alphabet is broken, and never
    the app `gateway`.  That app is on a host if a service there has a route, or may have one because its app is broken;
    and on every host if no service of the repository has a route.
    """
    apps: list[App] = []
    broken: dict[str, tuple[Problem, ...]] = {}
    readings = {name: _cached(tree, name, facts, cache) for name in _names(tree)}
    apart = readings.pop(GATEWAY_APP, None)
    if apart and _has_gateway(readings.values()):
        readings = {GATEWAY_APP: apart, **readings}
    register = Register()
    for name, reading in readings.items():
        clashes = {claim.problem(other) for claim, other in register.rivals(reading.claims)}
        if problems := reading.problems or tuple(sorted(clashes)):
            broken[name] = problems
        elif reading.app.services or reading.app.kong_entities:
            register.take(reading.claims)
            apps.append(reading.app)
    return tuple(apps), broken


def _has_gateway(readings: Collection[Reading]) -> bool:
    here = any(reading.routed_here or reading.problems for reading in readings)
    return here or not any(reading.routed for reading in readings)


@dataclass(frozen=True, slots=True)
class Review:
    """What was checked in a repository, and what was found: each mistake and each note once, sorted.

    `hosts` is 0 without a `fleet.yaml`: then any host is one.
    """

    problems: Sequence[Problem]
    notes: Sequence[Problem]
    apps: int
    hosts: int


def validate(tree: Tree) -> list[Problem]:
    """Every mistake in the repository, for all hosts; sorted, each once."""
    return [*review(tree).problems]


def review(tree: Tree) -> Review:
    """The repository, checked for all hosts.

    Mistakes in `fleet.yaml` come first, and then no mistake is reported that depends on the facts of a host.
    """
    notes: set[Problem] = set()
    fleet: Fleet | None = None
    first: Sequence[Problem] = ()
    try:
        fleet = read_fleet(tree)
    except ManifestError as error:
        first = error.problems
    problems = [*first, *sorted(_problems(tree, fleet, notes))]
    return Review(problems, sorted(notes), len(_names(tree)), len(fleet.hosts) if fleet else 0)


def _problems(tree: Tree, fleet: Fleet | None, notes: set[Problem]) -> set[Problem]:
    """The mistakes; what is to be noted is added to `notes`."""
    hosts = [*fleet.hosts.values()] if fleet and fleet.hosts else [HostFacts("localhost")]
    recording = _Recording(tree)
    parsed: Parsed = {}
    registers = [Register() for _ in hosts]
    problems: set[Problem] = set()
    apps = _names(tree)
    for name in apps:
        readings = [read_app(recording, name, facts, parsed) for facts in hosts]
        # A mistake in a service that runs on no host is a mistake too.
        elsewhere = frozenset.intersection(*(reading.elsewhere for reading in readings))
        idle = not any(reading.runs for reading in readings)
        for reading, register in zip(readings, registers, strict=True):
            told = [it for it in reading.found if reading.concerns(it) or idle or it.path[:2] in elsewhere]
            problems.update(it.problem for it in mistakes(told) if fleet or not it.by_host)
            notes.update(it.problem for it in told if it.note)
            if fleet:
                problems.update(_clashes(register, reading))
        if fleet:
            problems.update(_unread(tree, name, hosts, parsed))
        if fleet and fleet.hosts:
            problems.update(_unplaced(hosts, readings))
    return problems | set(_strays(recording)) | set(_unknown_apps(fleet, apps))


def _unknown_apps(fleet: Fleet | None, apps: Sequence[str]) -> Iterator[Problem]:
    """The apps of `fleet.yaml` that there are not."""
    names = [name for name in apps if name != GATEWAY_APP]
    for name, line in fleet.apps.items() if fleet else ():
        if name not in names:
            yield Problem(FLEET_FILE, line, f"apps.{name}", f"there is no app {name}{did_you_mean(name, names)}")


def _clashes(register: Register, reading: Reading) -> Iterator[Problem]:
    """Clashes of an app with the apps before it on a host, one problem for each of the two."""
    for claim, other in register.rivals(reading.claims):
        yield claim.problem(other)
        yield other.problem(claim)
    register.take(reading.claims)


def _names(tree: Tree) -> list[str]:
    """The apps of the repository, the gateway among them."""
    folders = (name.rstrip("/") for name in tree.names(APPS) if name.endswith("/"))
    apps = [name for name in folders if compose_files(tree, name)]
    return [GATEWAY_APP, *apps] if tree.names(FOLDER) and GATEWAY_APP not in apps else apps


def _unread(tree: Tree, app: str, hosts: Iterable[HostFacts], parsed: Parsed) -> Iterator[Problem]:
    """The app's Compose files that no host reads, such as because of a typo in their name."""
    files = compose_files(tree, app)
    if f"{APPS}/{app}/{main_file(files)}" in parsed:
        yield from (Problem(f"{APPS}/{app}/{file}", 1, "", why) for file, why in unread(tree, app, files, hosts))


def _unplaced(hosts: Sequence[HostFacts], readings: Sequence[Reading]) -> Iterator[Problem]:
    for service in {service for reading in readings for service in reading.constraints}:
        asked = zip(hosts, (reading.constraints.get(service) for reading in readings), strict=True)
        yield from nowhere([(facts, constraints) for facts, constraints in asked if constraints is not None])


def _strays(recording: _Recording) -> Iterator[Problem]:
    """Entries of `apps/` that are not an app and not used by one."""
    used = {"/".join(path.split("/")[:2]) for path in recording.seen}
    for name in recording.tree.names(APPS):
        path = f"{APPS}/{name}".rstrip("/")
        if is_compose_file(name):
            yield Problem(path, 1, "", f"belongs in a folder that is named after the app: {APPS}/<app>/{COMPOSE}")
        elif name.endswith("/") and not name.startswith(".") and path not in used:
            yield Problem(path, 1, "", f"is not an app: it has no {COMPOSE}, and no app uses its files")


def _cached(tree: Tree, name: str, facts: HostFacts, cache: Cache | None) -> Reading:
    if cache is None:
        return read_app(tree, name, facts, {})
    known = cache.get((facts.name, name))
    if known and known.facts == facts and all(tree.oid(path) == oid for path, oid in known.seen.items()):
        return known.reading
    recording = _Recording(tree)
    recording.oid(FOLDER if name == GATEWAY_APP else f"{APPS}/{name}")
    reading = read_app(recording, name, facts, {})
    cache[facts.name, name] = Remembered(facts, recording.seen, reading)
    return reading
