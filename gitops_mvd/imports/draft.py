"""An import in the making: the files of the project, what was changed in them, and what is left to somebody.  Pure."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from gitops_mvd.core.model import Problem
from gitops_mvd.core.secret_words import secret_name
from gitops_mvd.imports.document import Document, Pair, Spot
from gitops_mvd.imports.secrets import Withheld, why_secret
from gitops_mvd.imports.source import Source
from gitops_mvd.imports.variables import EnvFile
from gitops_mvd.manifest.app_files import is_compose_file

HOST_FOLDERS = "/srv/mvd"


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for.  `images` and `values` are by service and by variable, as given on the command line."""

    path: str
    app: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    unset_empty: bool = False
    not_secret: frozenset[str] = frozenset()

    @property
    def refused(self) -> frozenset[str]:
        """The variables whose given value is taken for a secret: it may be neither in Git nor in a report."""
        secret = (name for name, value in self.values.items() if secret_name(name) or why_secret(name, value))
        return frozenset(secret) - self.not_secret


@dataclass(frozen=True, slots=True)
class Brought:
    """A file of the app's folder; `origin` is where it came from, as shown to the user, "" if it is new."""

    content: bytes
    executable: bool = False
    origin: str = ""


class Place(NamedTuple):
    """A line of a file of the project, as shown to the user, and the key there; line 0 is the whole file."""

    file: str
    line: int
    key: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Change(NamedTuple):
    at: Place
    what: str
    why: str


class Secret(NamedTuple):
    """A secret that stays out of Git.

    `path` is the file on the server that is to have it, "" if it can only be the variable `variable` of the host.
    `origin` is where its value is so far.
    """

    at: Place
    name: str
    services: tuple[str, ...]
    why: str
    origin: Place
    path: str = ""
    variable: str = ""


class Data(NamedTuple):
    """A file or folder that the host keeps: `source` is where it lies now ("" if there is nothing yet)."""

    at: Place
    source: str
    folder: str
    kind: str
    services: tuple[str, ...]
    why: str


class Question(NamedTuple):
    """What only a person knows: the `image` of a service, or the value of a `variable`; `hint` helps to answer."""

    kind: str
    name: str
    places: tuple[Place, ...]
    hint: str = ""


@dataclass
class ComposeFile:
    """A Compose file of the project: `path` on the disk, `target` in the app's folder.

    Its relative paths begin at the folder `base` of the disk; `variables` are filled in in it.
    """

    path: str
    target: str
    base: str
    variables: dict[str, str]
    document: Document

    @cached_property
    def services(self) -> dict[str, Spot]:
        """The services by name, as they are written."""
        top = self.document.root.get("services") if self.document.root else None
        return {
            pair.key.value: pair.value
            for part in (top.merged() if top else ())
            for pair in part.pairs or ()
            if pair.key.value != "<<"
        }

    def section(self, name: str) -> dict[str, Pair]:
        """The entries of a section of the top level."""
        top = self.document.root.get(name) if self.document.root else None
        return {pair.key.value: pair for pair in (top.real.pairs if top else None) or () if pair.key.value != "<<"}


class Part(NamedTuple):
    """A mapping that is a service, or is merged into some: `services` are those that it belongs to."""

    file: ComposeFile
    spot: Spot
    services: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"services.{self.services[0]}"


@dataclass
class Draft:
    """Everything that is known of an import; `root` is the project's folder, `variables` are those of all hosts."""

    request: Request
    source: Source
    root: str
    app: str = ""
    given: frozenset[str] = frozenset()
    files: list[ComposeFile] = field(default_factory=list)
    env_files: dict[str, EnvFile] = field(default_factory=dict)
    brought: dict[str, Brought] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)  # path on the disk -> where it goes
    _used: set[str] = field(default_factory=set)  # every path of the app's folder that somebody has
    changes: dict[Change, None] = field(default_factory=dict)
    secrets: list[Secret] = field(default_factory=list)
    data: list[Data] = field(default_factory=list)
    notes: dict[Change, None] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    problems: dict[Problem, None] = field(default_factory=dict)
    withheld: Withheld = field(default_factory=Withheld)
    unshown: Withheld = field(default_factory=Withheld)  # secrets that are still where they were, for somebody to mend
    kept: set[str] = field(default_factory=set)  # what could be kept in Git, if somebody says so
    volumes: list[tuple[Place, str, str]] = field(default_factory=list)  # where, its name so far, and from now on
    images: dict[str, str] = field(default_factory=dict)  # service -> its image, as far as it is known

    def struck_out(self, text: str) -> str:
        """The text with `***` for each secret, as it may be shown."""
        return self.unshown.struck_out(self.withheld.struck_out(text))

    def shown(self, path: str) -> str:
        """A path as the user knows it: from the project's folder, or whole."""
        inside = self.inside(path)
        return inside if inside else path

    def inside(self, path: str) -> str:
        """The path of what lies in the project's folder, from there; "." for the folder, "" for what is elsewhere."""
        if path == self.root:
            return "."
        return path.removeprefix(f"{self.root.rstrip('/')}/") if path.startswith(f"{self.root.rstrip('/')}/") else ""

    def place(self, file: ComposeFile, spot: Spot, key: str = "") -> Place:
        return Place(self.shown(file.path), spot.line, key)

    def change(self, at: Place, what: str, why: str) -> None:
        self.changes[Change(at, what, why)] = None

    def note(self, at: Place, what: str, why: str = "") -> None:
        self.notes[Change(at, what, why)] = None

    def problem(self, at: Place, message: str) -> None:
        self.problems[Problem(at.file, at.line, at.key, message)] = None

    def parts(self) -> list[Part]:
        """Every mapping that is a service of a file, or part of one, once."""
        found: dict[int, tuple[ComposeFile, Spot, list[str]]] = {}
        for file in self.files:
            for name, service in file.services.items():
                for spot in service.merged():
                    if spot.pairs is not None:
                        names = found.setdefault(id(spot), (file, spot, []))[2]
                        if name not in names:
                            names.append(name)
        return [Part(file, spot, tuple(names)) for file, spot, names in found.values()]

    def free_target(self, wanted: str, path: str = "") -> str:
        """A path of the app's folder that nothing has yet, near the wanted one; `path` of the disk is to go there."""
        first, slash, below = wanted.partition("/")
        stem, dot, ending = first.partition(".") if not first.startswith(".") else (first, "", "")
        rest = f"{dot}{ending}{slash}{below}"
        names = itertools.chain([wanted], (f"{stem}-{number}{rest}" for number in itertools.count(2)))
        found = next(name for name in names if self._is_free(name, path))
        self._used.add(found)
        return found

    def _is_free(self, target: str, path: str) -> bool:
        """Can a path go there?  Nothing else may be there, above it or below it, but what is so on the disk, too.

        A name that is read as a Compose file is for those alone that are.
        """
        if target in self._used or target in self.brought or is_compose_file(target):
            return False
        for other, there in self.targets.items():
            above = target.startswith(f"{there}/") and path != other + target[len(there) :]
            below = there.startswith(f"{target}/") and other != path + there[len(target) :]
            if above or below:
                return False
        return True

    def take(self, path: str, target: str) -> None:
        """Say where a path of the disk goes."""
        self.targets[path] = target
        self._used.add(target)

    def target_of(self, path: str) -> str:
        """Where in the app's folder, or among its folders on the host, a path of the disk goes."""
        if path not in self.targets:
            inside = self.inside(path)
            if inside and inside != ".":
                self.targets[path] = self.free_target(inside, path)
            else:
                name = "project" if inside else posixpath.basename(path.rstrip("/")).lstrip(".") or "files"
                self.targets[path] = self.free_target(name)
        return self.targets[path]

    def file_target(self, path: str) -> str:
        """Where a file that the project reads goes; those of one folder elsewhere stay together."""
        if path not in self.targets and not self.inside(path):
            folder = posixpath.dirname(path)
            if folder not in self.targets:
                self.targets[folder] = self.free_target(posixpath.basename(folder).lstrip(".") or "files")
            self.take(path, f"{self.targets[folder]}/{posixpath.basename(path)}")
        return self.target_of(path)

    def reference(self, file: ComposeFile, target: str) -> str:
        """How a Compose file refers to something in the app's folder."""
        folder = posixpath.dirname(file.target)
        path = posixpath.relpath(target, folder or ".")
        return path if path.startswith("..") else f"./{path}"

    def is_secret(self, names: Iterable[str]) -> bool:
        """Has nobody said that it is none?"""
        return self.request.not_secret.isdisjoint(names)

    def refuse_secret(self, at: Place, why: str, names: Sequence[str]) -> None:
        """Report a secret that has no place but Git, unless somebody says that one of `names` is none."""
        if self.is_secret(names):
            self.kept.update(names)
            self.problem(
                at,
                f"{why}. Let the program read it from a file, or from its environment; or keep it in Git: --not-secret "
                f"{names[0]}",
            )

    def host_path(self, target: str) -> str:
        return f"{HOST_FOLDERS}/{self.app}/{target}"


def several(names: Sequence[str]) -> str:
    """`db`, `db and web`, `db, web and worker`."""
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
