"""The files of one app → one tree: variables, `extends`, overrides and `include`.  Pure but for the files it is given.

Paths in a file are relative to that file's folder, in every file that takes part: a value knows which one it came from.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gitops_mvd.config.readers import filled, string_or_strings, text
from gitops_mvd.config.tables import Ignored, Key, Place, Reader, Table, Unsupported, fields
from gitops_mvd.config.yamltree import Node, Sink, mistakes, parse, report
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.asked import YES, Asked
from gitops_mvd.manifest.blank import without_blanks
from gitops_mvd.manifest.dotenv import line_of, parse_env
from gitops_mvd.manifest.fleet import FILE as FLEET_FILE
from gitops_mvd.manifest.interpolate import FOLDER, PROJECT_NAME, Tally, Variables, interpolate
from gitops_mvd.manifest.merge import clean, merge
from gitops_mvd.manifest.sealed import NOT_HERE, is_sealed
from gitops_mvd.manifest.stand_ins import not_a_file, stand_in

SECTIONS = ("services", "networks", "volumes", "configs", "secrets")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|[\w.-]+@[\w.-]+:", re.IGNORECASE)
MAX_CHAIN = 16  # services that extend each other
MAX_INCLUDES = 50  # files of one app, those that are included twice counted twice

Sibling = Callable[[str], Node | None]

ANYTHING = Reader(Place.value, {})
_NOT_READ = {
    "COMPOSE_FILE": "is not read: an app is its Compose file, with the overrides of a host beside it",
    "DOCKER_DEFAULT_PLATFORM": "is not read: write `platform` into the services",
}
_BELOW = "belongs in a service, not beside `services`; an anchor needs another name"

TOP: Table = {
    "services": Key("The services of the app.", ANYTHING),
    "networks": Key("The networks of the app.", ANYTHING),
    "volumes": Key("The volumes of the app.", ANYTHING),
    "configs": Key("Files for services, from the repository, a variable or a text.", ANYTHING),
    "secrets": Key("Files for services, from the host, the repository or a variable.", ANYTHING),
    "include": Key(
        "Other Compose files to include, each with its own `.env`: a path, or `path` and `env_file`.", ANYTHING
    ),
    "name": Key("The name of the app; it must be the name of its folder, and may be left out.", text),
    "version": Ignored("the Compose Specification has no versions any more.", ANYTHING),
    "models": Unsupported("is not supported: run the model as a service with an image of its own"),
    "jobs": Unsupported("is not supported: a service that ends is one with `restart: on-failure`"),
    "x-mvd": Key("An extension of gitops-mvd: `suspend`, for the app as a whole.", ANYTHING),
    "x-kong": Unsupported(_BELOW),
}

INCLUDE: Table = {
    "path": Key("The file, or several to be merged.", string_or_strings),
    "env_file": Key("The file to use instead of the `.env` beside it.", string_or_strings),
    "project_directory": Unsupported("is not supported: paths are relative to the file that they are in"),
}

EXTENDS: Table = {
    "service": Key("The service to start from.", filled),
    "file": Key("The file with that service; left out: this file.", filled),
}


def inside(place: Place, path: str) -> str:
    """Where a relative path of a file leads, from the root of the repository."""
    if _REMOTE.match(path):
        place.fail(f"is a remote file, {path!r}, and those are not fetched: copy it into the repository")
    if path.startswith(("/", "~")):
        place.fail(f"is outside of the repository: {path!r} must be relative to this file")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(place.node.file), path))
    if joined.split("/")[0] == "..":
        place.fail(f"leads out of the repository: {path!r}")
    return "" if joined == "." else joined


def read_file(place: Place, tree: Tree, path: str) -> bytes:
    """The content of a file that `place` names."""
    content = read_content(place, tree, path)
    if is_sealed(content):
        place.fail(f"{path} {NOT_HERE}")
    return content


def read_content(place: Place, tree: Tree, path: str) -> bytes:
    """The content of a file that `place` names, which may be encrypted with SOPS."""
    try:
        content = tree.read(path)
    except FileNotFoundError:
        place.fail(not_a_file(tree, path))
    if what := stand_in(content):
        place.fail(f"{path} {what}")
    return content


def variables_of(tree: Tree, app: str, folder: str, asked: Asked, sink: Sink) -> Variables:
    """The variables of an app on a host: those of Compose itself, over the host's, over those of its `.env`."""
    fixed = {PROJECT_NAME: app, FOLDER: "."}
    unset_is_empty = asked(("unset is empty", app)) == YES
    known = Variables({**asked.facts.variables, **fixed}, unset_is_empty, tally=Tally(looked_up=asked.variable))
    read_here = {name: asked.variable(name) for name in (PROJECT_NAME, *_NOT_READ)}
    for name, why in _of_compose({name: value for name, value in read_here.items() if value is not None}, known):
        report(sink, (), FLEET_FILE, 1, f"the variable {name} {why}", note=True)
    return env_of(tree, f"{folder}/.env", known, sink)


def env_of(tree: Tree, path: str, over: Variables, sink: Sink) -> Variables:
    """The variables of an optional `.env`, under those of `over`."""
    try:
        data = tree.read(path)
    except FileNotFoundError:
        return over
    if is_sealed(data):
        report(sink, (), path, 1, NOT_HERE)
        return over
    found = parse_env(path, data, over, sink)
    for name, why in _of_compose(found, over):
        report(sink, (), path, line_of(name, data), f"{name} {why}", note=True)
    return over.over(found)


def _of_compose(found: Mapping[str, str], known: Variables) -> Iterator[tuple[str, str]]:
    """The variables that Compose reads for itself and of which something else is done here, each with what that is."""
    app = known.get(PROJECT_NAME)  # none while a file is imported
    if app is not None and found.get(PROJECT_NAME, app) != app:
        yield PROJECT_NAME, f"is always {app!r}, the name of the app's folder"
    yield from ((name, why) for name, why in _NOT_READ.items() if found.get(name))


class ParsedFile(NamedTuple):
    """A Compose file as it is, with its mistakes, and whether it may have variables and `!reset` or `!override`."""

    node: Node | None
    found: Sink
    has_variables: bool
    has_merging: bool


Parsed = dict[str, ParsedFile]


@dataclass
class Composition:
    """Reads and joins the files of one app; mistakes go to `sink`.

    `parsed` may be shared with other compositions of the same tree, so that a file is parsed once for all hosts.
    """

    tree: Tree
    sink: Sink
    parsed: Parsed = field(default_factory=dict)
    includes: int = 0
    has_merging: bool = False  # in any of them

    def load(self, paths: Sequence[str], variables: Variables, chain: tuple[str, ...] = ()) -> Node | None:
        """The files at `paths`, each merged over the one before, with what they include."""
        nodes = [node for path in paths if (node := self.file(path, variables, (*chain, *paths))) is not None]
        if len(nodes) < len(paths):  # a file that is missing might define what another one needs
            return None
        merged = nodes[0]
        for node in nodes[1:]:
            merged = merge(merged, node, self.sink)
        return without_blanks(clean(merged) if self.has_merging else merged)

    def file(self, path: str, variables: Variables, chain: tuple[str, ...]) -> Node | None:
        """One file with its variables put in, what it includes, and its services extended."""
        node = self.parse(path)
        if node is None:
            return None
        top = Place(node, (), self.sink)
        if top.attempt(Place.entries) is None:
            return None
        fields(top, TOP)
        if self.parsed[path].has_variables:
            node = interpolate(node, variables, (), self.sink)
        node = self.include(node, variables, chain)
        assert isinstance(node.value, dict)
        services = node.value.get("services")
        if services is None or not isinstance(services.value, dict):
            return node
        place = Place(services, ("services",), self.sink)
        extended = {
            name: self.extended(place.at(name, service), services.value.get, path, variables, ((path, name),))
            for name, service in services.value.items()
        }
        return node._replace(value={**node.value, "services": services._replace(value=extended)})

    def parse(self, path: str) -> Node | None:
        """One file as it is."""
        if path not in self.parsed:
            sink: Sink = []
            data = b""
            try:
                data = self.tree.read(path)
                why = NOT_HERE if is_sealed(data) else stand_in(data)
                node = None if why else parse(path, data, sink, compose=True)
            except FileNotFoundError:
                node, why = None, not_a_file(self.tree, path)
            if why:
                report(sink, (), path, 1, why)
            if node is None and not mistakes(sink):
                report(sink, (), path, 1, "is empty")
            self.parsed[path] = ParsedFile(node, sink, b"$" in data or b"\\" in data, b"!" in data)
        file = self.parsed[path]
        self.has_merging |= file.has_merging
        self.sink += (it for it in file.found if it not in self.sink)
        return file.node

    def extended(
        self,
        place: Place,
        sibling: Sibling,
        path: str,
        variables: Variables,
        chain: tuple[tuple[str, str], ...],
    ) -> Node:
        """A service merged over the one that it extends."""
        service = place.node
        if not isinstance(service.value, dict) or "extends" not in service.value:
            return service
        rest = {name: node for name, node in service.value.items() if name != "extends"}
        base = place.at("extends", service.value["extends"]).attempt(self.base, sibling, path, variables, chain)
        if base is None:
            broken = service.value["extends"]._replace(value=None, tag="!broken")
            return service._replace(value={**rest, "extends": broken})
        return merge(base, service._replace(value=rest), self.sink, place.path)._replace(
            file=service.file, line=service.line
        )

    def base(
        self, at: Place, sibling: Sibling, path: str, variables: Variables, chain: tuple[tuple[str, str], ...]
    ) -> Node:
        """The service that `extends` names, itself extended."""
        wanted = fields(at, EXTENDS, ("service",)) if isinstance(at.value(), dict) else {"service": filled(at)}
        name, path = wanted.get("service", ""), inside(at, wanted["file"]) if "file" in wanted else path
        if (path, name) in chain or len(chain) > MAX_CHAIN:
            at.fail("is circular: " + " → ".join(service for _, service in (*chain, (path, name))))
        if "file" in wanted:
            sibling = self.services(at, path, variables)
        if (service := sibling(name)) is None:
            at.fail(f"there is no service {name} in {path}")
        place = Place(service, at.path[:-1], self.sink)
        return self.extended(place, sibling, path, variables, (*chain, (path, name)))

    def services(self, at: Place, path: str, variables: Variables) -> Sibling:
        """The services of another file, not yet extended; only one that is asked for needs its variables."""
        read_file(at, self.tree, path)
        node = self.parse(path)
        services = node.value.get("services") if node is not None and isinstance(node.value, dict) else None
        if services is None or not isinstance(services.value, dict):
            at.fail(f"there are no services in {path}")
        raw = services.value

        def sibling(name: str) -> Node | None:
            return interpolate(raw[name], variables, at.path[:-1], self.sink) if name in raw else None

        return sibling

    def include(self, node: Node, variables: Variables, chain: tuple[str, ...]) -> Node:
        """The tree with the resources of the files that it includes."""
        assert isinstance(node.value, dict)
        sections = dict(node.value)
        wanted = sections.pop("include", None)
        if wanted is None or wanted.value is None:
            return node
        place = Place(wanted, ("include",), self.sink)
        for at in place.attempt(Place.items) or ():
            taken = at.attempt(self.included, variables, chain)
            if taken is not None and isinstance(taken.value, dict) and "x-mvd" in taken.value:
                at.report("has an `x-mvd` beside `services`, which would suspend this app: write that into this file")
            for section in SECTIONS:
                more = taken.value.get(section) if taken is not None and isinstance(taken.value, dict) else None
                if more is not None and isinstance(more.value, dict):
                    sections[section] = self.joined(section, sections.get(section), more)
        return node._replace(value=sections)

    def included(self, at: Place, variables: Variables, chain: tuple[str, ...]) -> Node | None:
        wanted = fields(at, INCLUDE, ("path",)) if isinstance(at.value(), dict) else {"path": [filled(at)]}
        paths = [inside(at, path) for path in wanted.get("path", ())]
        if not paths:
            return None
        if set(paths) & set(chain):
            at.fail(f"is circular: {' → '.join((*chain, *paths))}")
        self.includes += len(paths)
        if self.includes > MAX_INCLUDES:
            at.fail(f"makes more than {MAX_INCLUDES} files that the app includes")
        for path in paths:
            read_file(at, self.tree, path)
        envs = wanted.get("env_file")
        if envs is None:
            envs = [posixpath.join(posixpath.dirname(paths[0]), ".env")]
        else:
            envs = [inside(at, path) for path in envs]
            for path in envs:
                read_file(at, self.tree, path)
        for path in reversed(envs):
            variables = env_of(self.tree, path, variables, self.sink)
        return self.load(paths, variables, chain)

    def joined(self, section: str, own: Node | None, more: Node) -> Node:
        """Two sections side by side; what is in both is a mistake."""
        if own is None or not isinstance(own.value, dict):
            return more
        assert isinstance(more.value, dict)
        for name in own.value.keys() & more.value.keys():
            other, node = more.value[name], own.value[name]
            if (other.file, other.line) != (node.file, node.line):
                report(
                    self.sink,
                    (section, name),
                    node.file,
                    node.line,
                    f"is defined in {other.file}:{other.line} too, which is included",
                )
        return own._replace(value={**more.value, **own.value})
