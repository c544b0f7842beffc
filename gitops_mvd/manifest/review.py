"""What is wrong in a repository, for all of its hosts, and what is to be noted: what `mvd validate` tells.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gitops_mvd.config.tables import did_you_mean
from gitops_mvd.config.yamltree import mistakes
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.app_files import COMPOSE, compose_files, is_compose_file, main_file, unread
from gitops_mvd.manifest.claims import Register
from gitops_mvd.manifest.composition import Parsed
from gitops_mvd.manifest.fleet import FILE as FLEET_FILE
from gitops_mvd.manifest.fleet import Fleet, read_fleet
from gitops_mvd.manifest.kong_entities import GATEWAY_APP
from gitops_mvd.manifest.load import Recording, app_names
from gitops_mvd.manifest.placement import nowhere
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import Reading, read_app


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
    return Review(problems, sorted(notes), len(app_names(tree)), len(fleet.hosts) if fleet else 0)


def _problems(tree: Tree, fleet: Fleet | None, notes: set[Problem]) -> set[Problem]:
    """The mistakes; what is to be noted is added to `notes`."""
    hosts = [*fleet.hosts.values()] if fleet and fleet.hosts else [HostFacts("localhost")]
    recording = Recording(tree)
    parsed: Parsed = {}
    registers = [Register() for _ in hosts]
    problems: set[Problem] = set()
    apps = app_names(tree)
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


def _unread(tree: Tree, app: str, hosts: Iterable[HostFacts], parsed: Parsed) -> Iterator[Problem]:
    """The app's Compose files that no host reads, such as because of a typo in their name."""
    files = compose_files(tree, app)
    if f"{APPS}/{app}/{main_file(files)}" in parsed:
        yield from (Problem(f"{APPS}/{app}/{file}", 1, "", why) for file, why in unread(tree, app, files, hosts))


def _unplaced(hosts: Sequence[HostFacts], readings: Sequence[Reading]) -> Iterator[Problem]:
    for service in {service for reading in readings for service in reading.constraints}:
        asked = zip(hosts, (reading.constraints.get(service) for reading in readings), strict=True)
        yield from nowhere([(facts, constraints) for facts, constraints in asked if constraints is not None])


def _strays(recording: Recording) -> Iterator[Problem]:
    """Entries of `apps/` that are not an app and not used by one."""
    used = {"/".join(path.split("/")[:2]) for path in recording.seen}
    for name in recording.tree.names(APPS):
        path = f"{APPS}/{name}".rstrip("/")
        if is_compose_file(name):
            yield Problem(path, 1, "", f"belongs in a folder that is named after the app: {APPS}/<app>/{COMPOSE}")
        elif name.endswith("/") and not name.startswith(".") and path not in used:
            yield Problem(path, 1, "", f"is not an app: it has no {COMPOSE}, and no app uses its files")
