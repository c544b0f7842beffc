"""The repository at one commit → the apps of one host, or all that is wrong with it.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import App, HostFacts, Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.text import plain_line
from gitops_mvd.manifest.app_files import MAIN, compose_files
from gitops_mvd.manifest.asked import Answer, Asked, Question, same_answers
from gitops_mvd.manifest.budget import MOST_APPS, Amount, Budgeted
from gitops_mvd.manifest.claims import Register
from gitops_mvd.manifest.kong_entities import FOLDER, GATEWAY_APP, gateway_files
from gitops_mvd.manifest.namesakes import Names
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import Reading, is_app_name, read_app
from gitops_mvd.manifest.stand_ins import in_the_way, not_a_folder


@dataclass(frozen=True)
class Remembered:
    """A reading, and what it was made from: what was asked of the facts of the host, and of the files."""

    facts: HostFacts
    answers: Mapping[Question, Answer]
    seen: Mapping[str, str]  # path -> oid; what lies in the app's own folder is seen by the id of that
    listed: Amount  # by a look into the app's folder
    reading: Reading

    def still_holds(self, tree: Tree, facts: HostFacts) -> bool:
        if facts is not self.facts and not same_answers(facts, self.answers):
            return False
        return all(tree.oid(path) == oid for path, oid in self.seen.items())


Cache = MutableMapping[tuple[str, str], Remembered]
"""Owned by the caller, empty to begin with: by host and app, what need not be read again."""


class Recording:
    """A Tree that notes what was asked of it, with the object ids of that."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.seen: dict[str, str] = {}
        self.listed: dict[str, int] = {}  # folder -> the number of its names

    def read(self, path: str) -> bytes:
        self.oid(path)
        return self.tree.read(path)

    def names(self, folder: str) -> Sequence[str]:
        self.oid(folder)
        names = self.tree.names(folder)
        self.listed[folder] = len(names)
        return names

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

    With a `cache`, an app is read again only if one of its files or a fact that it asks for has changed.  Mistakes in
    files do not raise, unless it is the folder of all apps that is none; exceptions of the Tree do, and a ManifestError
    says that all apps together are too much to be read.

    Of two apps that want the same port or route of the host, the one that is later in the alphabet is broken, and never
    the app `gateway`; of two that make a network or a volume of one name, it is the one that has written that name
    down; of two whose networks or instances would have one name, the later one gets other names.  The app `gateway` is
    on a host if a service there has a route, or may have one because its app is broken; and on every host if no service
    of the repository has a route.
    """
    if why := not_a_folder(tree, APPS):
        raise ManifestError([Problem(APPS, 1, "", why)])
    apps: list[App] = []
    broken: dict[str, tuple[Problem, ...]] = {}
    everything = Budgeted(tree, all=True)
    cache = {} if cache is None else cache
    known = {app: it for (host, app), it in cache.items() if host == facts.name and it.still_holds(tree, facts)}
    remembered: dict[str, Remembered] = {}
    for name in _app_names(tree, known):
        read = remembered[plain_line(name)] = known.get(name) or _read(tree, name, facts)
        cache[facts.name, name] = read
        everything.count(f"{APPS}/{name}", read.reading.cost)
    _forget_others(cache, facts.name, remembered)
    in_place = files_in_place(tree, {path for it in remembered.values() for path in it.seen})
    readings = {name: it.reading for name, it in remembered.items()}
    apart = readings.pop(GATEWAY_APP, None)
    if apart and _has_gateway(readings.values()):
        readings = {GATEWAY_APP: apart, **readings}
    register, names = Register(), Names()
    for reading in readings.values():
        if not reading.problems:
            register.take(claim for claim in reading.claims if claim.derived)
    named = {name: names.apart(readings[name].app) for name in sorted(readings)}
    for name, reading in readings.items():
        app = named[name]
        clashes = {claim.problem(other) for claim, other in register.rivals(reading.claims)}
        if problems := reading.problems or tuple(sorted(clashes)):
            broken[name] = problems
        elif app.services or app.kong_entities:
            register.take(reading.claims)
            apps.append(app)
    return tuple(apps), {**broken, **{name: (problem,) for name, problem in in_place.items()}}


def _app_names(tree: Tree, known: Mapping[str, Remembered]) -> list[str]:
    """As `app_names`; the folders of those that are known are counted as if they were looked into."""
    folders = Budgeted(tree, all=True)

    def is_known(name: str) -> bool:
        if name in known:
            folders.count(f"{APPS}/{name}", known[name].listed)
        return name in known

    return app_names(folders, is_known)


def _forget_others(cache: Cache, host: str, apps: Collection[str]) -> None:
    """Of that host, keep only the readings of these apps."""
    for key in [key for key in cache if key[0] == host and plain_line(key[1]) not in apps]:
        del cache[key]


def _has_gateway(readings: Collection[Reading]) -> bool:
    here = any(reading.routed_here or reading.problems for reading in readings)
    return here or not any(reading.routed for reading in readings)


def app_names(tree: Tree, known: Callable[[str], bool] = lambda name: False) -> list[str]:
    """The apps of the repository, the gateway among them; those that are `known` are not looked into.

    What stands in the place of a folder, such as a submodule, is one that cannot be read, and not one that is gone.
    A file may be for several apps, and counts as one only if none reads it: see `files_in_place`.  Raises ManifestError
    if there are too many.
    """
    entries = {name.rstrip("/"): name.endswith("/") for name in tree.names(APPS)}
    apps = [
        name
        for name, is_folder in entries.items()
        if (
            known(name) or _is_app(tree, name)
            if is_folder
            else is_app_name(name) and in_the_way(tree, f"{APPS}/{name}")
        )
    ]
    if len(apps) > MOST_APPS:
        why = f"has {len(apps):,} apps: a repository may have {MOST_APPS:,}, so put some of them into another one"
        raise ManifestError([Problem(APPS, 1, "", why)])
    has_gateway = gateway_files(tree) or not_a_folder(tree, FOLDER)
    return [GATEWAY_APP, *apps] if has_gateway and GATEWAY_APP not in apps else apps


def files_in_place(tree: Tree, read: Collection[str]) -> dict[str, Problem]:
    """The files that have the name of an app, and that no app has read, each with what is wrong with it."""
    found = {}
    for name in tree.names(APPS):
        if is_app_name(name) and f"{APPS}/{name}" not in read and tree.kind(f"{APPS}/{name}") == "file":
            why = "is a file, and an app is a folder: put the folder back, or give the file another name"
            found[name] = Problem(f"{APPS}/{name}", 1, "", why)
    return found


def _is_app(tree: Tree, name: str) -> bool:
    try:
        return bool(compose_files(tree, name)) or any(tree.oid(f"{APPS}/{name}/{file}") for file in MAIN)
    except ManifestError:  # it has too many files to be read: `read_app` says so
        return True


def _read(tree: Tree, name: str, facts: HostFacts) -> Remembered:
    folder = f"{APPS}/{name}"
    recording, asked = Recording(tree), Asked(facts)
    recording.oid(folder)
    if name == GATEWAY_APP:
        recording.oid(FOLDER)
    reading = read_app(recording, name, asked, {}, elsewhere_too=False)
    seen = {path: oid for path, oid in recording.seen.items() if not path.startswith(f"{folder}/") or ".." in path}
    return Remembered(facts, asked.answers, seen, Amount(names=recording.listed.get(folder, 0), looks=1), reading)
