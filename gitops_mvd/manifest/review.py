"""What is wrong in a repository, for all of its hosts, and what is to be noted: what `mvd validate` tells.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gitops_mvd.config.tables import did_you_mean
from gitops_mvd.config.yamltree import mistakes
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.app_files import COMPOSE, LAPTOP, compose_files, is_compose_file, main_file, unread
from gitops_mvd.manifest.claims import Register
from gitops_mvd.manifest.composition import Parsed
from gitops_mvd.manifest.fleet import FILE as FLEET_FILE
from gitops_mvd.manifest.fleet import Fleet, read_fleet
from gitops_mvd.manifest.kong_entities import GATEWAY_APP
from gitops_mvd.manifest.load import Recording, app_names, files_in_place
from gitops_mvd.manifest.pems import check_pems
from gitops_mvd.manifest.placement import nowhere, without_fleet
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import Reading, read_for_all
from gitops_mvd.manifest.shared import Alias
from gitops_mvd.manifest.stand_ins import not_a_folder


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
    """Every mistake in what the repository has, for all hosts; sorted, each once.  In an empty one there is none."""
    return [*_reviewed(tree, set())]


def review(tree: Tree) -> Review:
    """The repository, checked for all hosts.  One with nothing to check is a mistake, and so is one with too much."""
    try:
        apps = app_names(tree)
    except ManifestError as error:
        return Review(error.problems, (), 0, 0)
    notes: set[Problem] = set()
    problems = [*_reviewed(tree, notes), *_misplaced(tree, notes)]
    try:
        hosts = len(read_fleet(tree).hosts)
    except ManifestError:
        hosts = 0
    return Review(problems, sorted(notes), len(apps), hosts)


def _reviewed(tree: Tree, notes: set[Problem]) -> Iterator[Problem]:
    """Mistakes in `fleet.yaml` come first, and then no mistake is reported that depends on the facts of a host."""
    fleet: Fleet | None = None
    try:
        fleet = read_fleet(tree)
    except ManifestError as error:
        yield from error.problems
    if fleet and not fleet.hosts and not fleet.open:
        why = "has no host: no server may use the repository; add one, or remove the file"
        yield Problem(FLEET_FILE, 1, "hosts", why)
    yield from fleet.empty_lists if fleet else ()
    yield from sorted(_problems(tree, fleet, notes))


def _problems(tree: Tree, fleet: Fleet | None, notes: set[Problem]) -> set[Problem]:
    """The mistakes; what is to be noted is added to `notes`."""
    hosts = [*fleet.hosts.values()] if fleet and fleet.hosts else [HostFacts("localhost")]
    recording = Recording(tree)
    parsed: Parsed = {}
    registers = [Register() for _ in hosts]
    known: list[dict[tuple[str, str], Alias]] = [{} for _ in hosts]
    problems: set[Problem] = set()
    apps = app_names(tree)
    for name in apps:
        readings = read_for_all(recording, name, hosts, parsed)
        different = {id(reading): reading for reading in readings}.values()
        # A mistake in a service that runs on no host is a mistake too.
        elsewhere = frozenset.intersection(*(reading.elsewhere for reading in different))
        idle = not any(reading.runs for reading in different)
        for reading in different:
            told = [it for it in reading.found if reading.concerns(it) or idle or it.path[:2] in elsewhere]
            problems.update(it.problem for it in mistakes(told) if fleet or not it.by_host)
            notes.update(it.problem for it in told if it.note)
        if fleet:
            for reading, register, names in zip(readings, registers, known, strict=True):
                problems.update(_clashes(register, reading))
                notes.update(_namesakes(names, reading))
        if fleet:
            problems.update(_unread(tree, name, hosts, parsed))
        if fleet and fleet.hosts:
            problems.update(_unplaced(hosts, readings))
        elif fleet and fleet.open:
            problems.update(problem for reading in different for problem in _unlabelled(reading))
    return problems | set(_strays(recording)) | set(_unknown_apps(fleet, apps)) | set(check_pems(tree))


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


def _namesakes(known: dict[tuple[str, str], Alias], reading: Reading) -> Iterator[Problem]:
    """The names by which services of two apps are found on one network: whoever asks there may get either."""
    for alias in reading.aliases:
        other = known.setdefault((alias.network, alias.name), alias)
        if other.owner.partition(".")[0] != reading.app.name:
            owners = f"{other.owner} and {alias.owner}"
            why = f"{alias.name} is a name of {owners} on {alias.network}: whoever asks for it there may get either"
            for at in (alias.at, other.at):
                yield Problem(at.node.file, at.node.line, at.key, why)


def _unread(tree: Tree, app: str, hosts: Iterable[HostFacts], parsed: Parsed) -> Iterator[Problem]:
    """The app's Compose files that no host reads, such as because of a typo in their name."""
    files = compose_files(tree, app)
    if f"{APPS}/{app}/{main_file(files)}" in parsed:
        yield from (Problem(f"{APPS}/{app}/{file}", 1, "", why) for file, why in unread(tree, app, files, hosts))


def _unplaced(hosts: Sequence[HostFacts], readings: Sequence[Reading]) -> Iterator[Problem]:
    for service in {service for reading in readings for service in reading.constraints}:
        asked = zip(hosts, (reading.constraints.get(service) for reading in readings), strict=True)
        yield from nowhere([(facts, constraints) for facts, constraints in asked if constraints is not None])


def _unlabelled(reading: Reading) -> Iterator[Problem]:
    """The services that need a label, which no host has without a `fleet.yaml`."""
    for constraints in reading.constraints.values():
        yield from without_fleet(constraints)


def _misplaced(tree: Tree, notes: set[Problem]) -> Iterator[Problem]:
    """What a repository would need to have anything in it, and files that nobody looks at where they are."""
    apps, top = app_names(tree), tree.names("")
    strays = [name for name in top if is_compose_file(name)]
    if apps:
        where = f"is not read: an app is a folder of its own, {APPS}/<app>/{COMPOSE}"
        notes.update(Problem(name, 1, "", where) for name in strays if name not in LAPTOP)
    for name in top:
        folders = [f"{name}{below}" for below in tree.names(name[:-1]) if below.endswith("/")]
        is_like = name.endswith("/") and name != f"{APPS}/" and did_you_mean(name[:-1].lower(), [APPS])
        if is_like and any(_has_compose_file(tree, folder[:-1]) for folder in folders):
            yield Problem(name[:-1], 1, "", f"is not read: the folder of the apps is called {APPS}, rename it")
            return
    if not apps:
        yield Problem(APPS, 1, "", f"{_nothing(tree, top, strays)}: an app is a folder such as {APPS}/shop/{COMPOSE}")


def _nothing(tree: Tree, top: Sequence[str], strays: Sequence[str]) -> str:
    """Why there is nothing in the repository that could be checked."""
    if f"{APPS}/" in top:
        return "has no app"
    folders = [name for name in top if name.endswith("/") and _has_compose_file(tree, name[:-1])]
    if strays:
        return f"there is no folder {APPS}/ here, and {strays[0]} is not read where it is"
    if folders:
        return f"there is no folder {APPS}/ here, and the Compose file in {folders[0]} is not read where it is"
    found = ", ".join(top[:8]) + (", ..." if len(top) > 8 else "")
    return f"there is no folder {APPS}/ here, so this is no config repository ({found or 'the folder is empty'})"


def _has_compose_file(tree: Tree, folder: str) -> bool:
    return any(map(is_compose_file, tree.names(folder)))


def _strays(recording: Recording) -> Iterator[Problem]:
    """Entries of `apps/` that are not an app and not used by one."""
    if why := not_a_folder(recording.tree, APPS):
        yield Problem(APPS, 1, "", why)
    yield from files_in_place(recording.tree, recording.seen.keys()).values()
    used = {"/".join(path.split("/")[:2]) for path in recording.seen}
    for name in recording.tree.names(APPS):
        path = f"{APPS}/{name}".rstrip("/")
        if is_compose_file(name):
            yield Problem(path, 1, "", f"belongs in a folder that is named after the app: {APPS}/<app>/{COMPOSE}")
        elif name.endswith("/") and not name.startswith(".") and path not in used:
            yield Problem(path, 1, "", f"is not an app: it has no {COMPOSE}, and no app uses its files")
