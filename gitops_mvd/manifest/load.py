"""The repository at one commit → the apps of one host, or all that is wrong with it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from gitops_mvd.errors import ManifestError
from gitops_mvd.manifest.composition import Parsed
from gitops_mvd.manifest.fleet import read_fleet
from gitops_mvd.manifest.gateway import FOLDER, NAME
from gitops_mvd.manifest.reading import APPS, COMPOSE, Reading, compose_files, read_app
from gitops_mvd.model import App, HostFacts, Problem
from gitops_mvd.ports import Tree

LAPTOP = "compose.override.yaml"  # `docker compose` takes it up by itself; a server does not


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


def load(
    tree: Tree, facts: HostFacts, cache: Cache | None = None
) -> tuple[tuple[App, ...], Mapping[str, tuple[Problem, ...]]]:
    """The apps with services on that host, and the broken ones by name with every problem.

    With a `cache`, an app is read again only if a file that it was read from has changed, or a fact.  Nothing that the
    files say raises; what the Tree itself raises goes through.
    """
    apps: list[App] = []
    broken: dict[str, tuple[Problem, ...]] = {}
    for name in _names(tree):
        reading = _cached(tree, name, facts, cache)
        if reading.problems:
            broken[name] = reading.problems
        elif reading.app.services or reading.app.gateway:
            apps.append(reading.app)
    return tuple(apps), broken


def validate(tree: Tree) -> list[Problem]:
    """Every mistake in the repository, for whichever host; sorted, each once."""
    problems: set[Problem] = set()
    try:
        fleet = read_fleet(tree)
    except ManifestError as error:
        fleet = None
        problems.update(error.problems)
    hosts = [*fleet.hosts.values()] if fleet and fleet.hosts else [HostFacts("localhost")]
    parsed: Parsed = {}
    for name in _names(tree):
        readings = [read_app(tree, name, facts, parsed) for facts in hosts]
        # What runs nowhere matters to no host, and is a mistake nevertheless.
        nowhere = frozenset.intersection(*(reading.elsewhere for reading in readings))
        idle = not any(reading.runs for reading in readings)
        for reading in readings:
            problems.update(reading.problems)
            problems.update(it.problem for it in reading.found if idle or it.path[:2] in nowhere)
        if fleet:
            problems.update(_unread(tree, name, parsed))
    return sorted(problems)


def _names(tree: Tree) -> list[str]:
    """The apps of the repository, the gateway among them."""
    folders = (name.rstrip("/") for name in tree.names(APPS) if name.endswith("/"))
    apps = [name for name in folders if compose_files(tree, name)]
    return [*apps, NAME] if tree.names(FOLDER) and NAME not in apps else apps


def _unread(tree: Tree, app: str, parsed: Parsed) -> Iterator[Problem]:
    """The app's Compose files that no host reads, for a typing error in their name."""
    if f"{APPS}/{app}/{COMPOSE}" in parsed:
        for file in compose_files(tree, app):
            path = f"{APPS}/{app}/{file}"
            if path not in parsed and file != LAPTOP:
                yield Problem(path, 1, "", "no host reads it: an override is named compose.<label>-<value>.yaml")


def _cached(tree: Tree, name: str, facts: HostFacts, cache: Cache | None) -> Reading:
    if cache is None:
        return read_app(tree, name, facts, {})
    known = cache.get((facts.name, name))
    if known and known.facts == facts and all(tree.oid(path) == oid for path, oid in known.seen.items()):
        return known.reading
    recording = _Recording(tree)
    recording.oid(FOLDER if name == NAME else f"{APPS}/{name}")
    reading = read_app(recording, name, facts, {})
    cache[facts.name, name] = Remembered(facts, recording.seen, reading)
    return reading
