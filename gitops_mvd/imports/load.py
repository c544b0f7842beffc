"""The Compose files of a project, as `docker compose` finds them, with their variables and env files.  Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

import yaml

from gitops_mvd.config.yamltree import MAX_BYTES, Sink, mistakes, parse
from gitops_mvd.core.errors import MvdError
from gitops_mvd.imports.document import Document, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Place
from gitops_mvd.imports.source import FILE, FOLDER, MISSING, Source
from gitops_mvd.imports.variables import EnvFile, evaluate, read_env
from gitops_mvd.manifest.app_files import LAPTOP, MAIN

MAX_FILES = 50
_COMPOSE_LIKE = re.compile(r"(?i)(?:.*[.-])?(?:docker-)?(?:compose|stack)(?:[.-].*)?\.ya?ml")
_SETS_NOTHING = re.compile(r"[^a-z0-9_-]")


def find(path: str, source: Source) -> tuple[str, list[str], list[str]]:
    """The project's folder, its Compose files (the main one first), and those that are not taken.  Raises MvdError."""
    look = source.look(path)
    if look.kind == MISSING:
        raise MvdError(f"there is no {path}", "name a Compose file, or the folder of a Compose project")
    if look.why or look.kind not in (FILE, FOLDER):
        why = look.why or f"it is {look.kind}"
        raise MvdError(f"cannot read {path}: {why}", "name a Compose file, or the folder of a Compose project")
    if look.kind == FILE:
        return posixpath.dirname(path), [path], []
    names = source.names(path, 10_000)
    chosen = _named_in_env(path, source) or _by_default(path, source)
    others = [name for name in names if _COMPOSE_LIKE.fullmatch(name) and f"{path}/{name}" not in chosen]
    if not chosen:
        known = f": name one of {', '.join(others)}" if others else f" (none of {', '.join(MAIN)})"
        raise MvdError(f"{path} has no Compose file{known}", f"mvd import {path}/{others[0]}" if others else "")
    return path, chosen, others


def _by_default(folder: str, source: Source) -> list[str]:
    def first(candidates: tuple[str, ...]) -> list[str]:
        there = (f"{folder}/{name}" for name in candidates)
        return [path for path in there if source.look(path).kind != MISSING][:1]

    main = first(MAIN)
    return main + first(LAPTOP) if main else []


def _named_in_env(folder: str, source: Source) -> list[str]:
    """The files that `COMPOSE_FILE` in the project's `.env` names."""
    path = f"{folder}/.env"
    look = source.look(path)
    if look.kind != FILE or look.why or look.size > MAX_BYTES:
        return []
    try:
        values = read_env(path, ".env", source.read(path).decode("utf-8-sig"), {}).values
    except (OSError, UnicodeDecodeError):
        return []
    named = values.get("COMPOSE_FILE", "")
    separator = values.get("COMPOSE_PATH_SEPARATOR", ":")
    paths = (posixpath.normpath(posixpath.join(folder, name)) for name in named.split(separator) if name)
    return list(dict.fromkeys(paths))


def app_name(name: str) -> str:
    """The name of a Compose project, by Compose's own rule: what a name may not have is left out."""
    return _SETS_NOTHING.sub("", name.lower()).lstrip("_-")[:63]


class Loader:
    """Loads the files of a project into a draft; what cannot be read is a problem of the draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.given: Mapping[str, str] = draft.request.values

    def project(self, paths: list[str]) -> None:
        """The main file, and what is merged over it."""
        root = self.draft.root
        variables = self.variables([f"{root}/.env"], self.given)
        targets = ["compose.yaml"]
        if len(paths) > 1:
            targets = ["base.yaml", *(f"override{'' if n == 1 else f'-{n}'}.yaml" for n in range(1, len(paths)))]
        for path, target in zip(paths, targets, strict=True):
            self.draft.take(path, target)
        for path, target in zip(paths, targets, strict=True):
            at = Place(self.draft.shown(path), 1)
            self.compose(path, target, root, variables, at)

    def variables(self, paths: list[str], over: Mapping[str, str]) -> dict[str, str]:
        """The variables of `.env` files, a later one over an earlier one, and `over` over all."""
        found: dict[str, str] = {}
        for path in paths:
            if self.draft.source.look(path).kind != MISSING:
                env = self.env(path, {**found, **over}, Place(self.draft.shown(path), 1))
                found |= env.values if env else {}
        return {**found, **over}

    def env(self, path: str, variables: Mapping[str, str], at: Place, raw: bool = False) -> EnvFile | None:
        """An env file of the disk, read as it is at its first use; None if it cannot be read."""
        if path not in self.draft.env_files:
            text = self.text(path, at)
            if text is None:
                return None
            self.draft.env_files[path] = read_env(path, self.draft.file_target(path), text, variables, raw)
        return self.draft.env_files[path]

    def text(self, path: str, at: Place) -> str | None:
        """The text of a file that `at` names."""
        draft, look = self.draft, self.draft.source.look(path)
        shown = draft.shown(path)
        subject = "" if shown == at.file and not at.key else f"{shown}: "
        if look.kind == MISSING:
            draft.problem(at, f"there is no file {shown}{self._example(path)}")
        elif look.kind != FILE or look.why:
            why = look.why or f"it is {look.kind}, not a file"
            draft.problem(at, f"cannot read {shown}: {why}")
        elif look.size > MAX_BYTES:
            draft.problem(at, f"{subject}is larger than {MAX_BYTES >> 20} MiB")
        else:
            try:
                return draft.source.read(path).decode("utf-8-sig")
            except OSError as error:
                draft.problem(at, f"cannot read {shown}: {error.strerror}")
            except UnicodeDecodeError:
                draft.problem(at, f"{subject}is not UTF-8 text")
        return None

    def _example(self, path: str) -> str:
        for ending in (".example", ".sample", ".dist", ".template"):
            if self.draft.source.look(path + ending).kind == FILE:
                return f": copy {self.draft.shown(path)}{ending} to it first, and set the values"
        return ""

    def compose(self, path: str, target: str, base: str, variables: dict[str, str], at: Place) -> None:
        """A Compose file, and those that it extends and includes."""
        draft = self.draft
        if any(file.path == path for file in draft.files):
            return
        if len(draft.files) >= MAX_FILES:
            draft.problem(at, f"the project has more than {MAX_FILES} Compose files")
            return
        text = self.text(path, at)
        if text is None:
            return
        sink: Sink = []
        node = parse(draft.shown(path), text.encode(), sink)
        if node is None or mistakes(sink):
            draft.problems |= {it.problem: None for it in mistakes(sink)}
            if not mistakes(sink):
                draft.problem(Place(draft.shown(path), 1), "is empty")
            return
        if not isinstance(node.value, dict):
            draft.problem(Place(draft.shown(path), node.line), "is not a Compose file: it has no `services`")
            return
        try:
            document = Document(text)
        except yaml.YAMLError as error:
            draft.problem(at, f"is not valid YAML: {error}")
            return
        file = ComposeFile(path, target, base, variables, document)
        draft.files.append(file)
        draft.take(path, target)
        self._extended(file)
        self._included(file)

    def path(self, file: ComposeFile, written: str, base: str = "") -> str:
        """Where a path in a Compose file leads on the disk; "" if a variable in it is missing."""
        source, text = self.draft.source, self.value(file, written)
        if not text:
            return ""
        if text == "~" or text.startswith("~/"):
            text = source.home + text[1:]
        return posixpath.normpath(posixpath.join(base or file.base, text))

    def value(self, file: ComposeFile, written: str) -> str:
        """A path or mount with its variables put in; "" if one is missing."""
        folders = {"HOME": self.draft.source.home, "PWD": self.draft.root}
        value = evaluate(written, {**folders, **file.variables})
        return "" if value.missing else value.text

    def _target(self, path: str) -> str:
        """Where a Compose file goes; beside the main one, another one must not have a name that is looked for."""
        name = self.draft.inside(path)
        if path not in self.draft.targets and "/" not in name and _COMPOSE_LIKE.fullmatch(name):
            stem = re.sub(r"(?i)(docker-)?compose[.-]?", "", posixpath.splitext(name)[0]).strip(".-") or "included"
            self.draft.take(path, self.draft.free_target(f"{stem}.yaml", path))
        return self.draft.file_target(path)

    def refer(self, file: ComposeFile, spot: Spot, path: str, target: str, key: str) -> None:
        """Write where a file of the project is now."""
        reference = self.draft.reference(file, target)
        written = evaluate(spot.real.value, file.variables).text
        folder = posixpath.dirname(file.target)
        if posixpath.normpath(posixpath.join(folder, written)) != posixpath.normpath(posixpath.join(folder, reference)):
            file.document.write(spot.real, reference)
            self.draft.change(
                self.draft.place(file, spot.real, key),
                f"{spot.real.value} → {reference}",
                "an app has its files in its own folder"
                if not self.draft.inside(path)
                else "the file has another name now",
            )

    def _extended(self, file: ComposeFile) -> None:
        for name, service in file.services.items():
            extends = service.lookup("extends")
            spot = extends.real.get("file") if extends else None
            if spot is None or not spot.real.scalar:
                continue
            key = f"services.{name}.extends.file"
            path = self.path(file, spot.real.value)
            if path and path != file.path:
                target = self._target(path)
                self.compose(path, target, posixpath.dirname(path), file.variables, self.draft.place(file, spot, key))
                self.refer(file, spot, path, target, key)

    def _included(self, file: ComposeFile) -> None:
        include = file.document.root.get("include") if file.document.root else None
        for number, item in enumerate(include.real.items or () if include else ()):
            self._include(file, item.real, f"include[{number}]")

    def _include(self, file: ComposeFile, item: Spot, key: str) -> None:
        named = item if item.scalar else item.get("path")
        spots = [it.real for it in (named.real.items or [named.real])] if named else []
        spots = [spot for spot in spots if spot.scalar]
        if any(re.match(r"(?:oci|git|https?|ssh)://|git@|\S+\.git(?:#|$)", spot.value) for spot in spots):
            self.draft.problem(
                self.draft.place(file, spots[0], key),
                "is a remote file, which is not taken in: download it beside this file, and name it here",
            )
            return
        paths = [self.path(file, spot.value) for spot in spots]
        if not paths or not all(paths):
            return
        folder_spot = None if item.scalar else item.pair("project_directory")
        base = self.path(file, folder_spot.value.real.value) if folder_spot else posixpath.dirname(paths[0])
        env_spot = None if item.scalar else item.get("env_file")
        if env_spot:
            env_spots = [it.real for it in (env_spot.real.items or [env_spot.real])]
            envs = [self.path(file, it.value) for it in env_spots]
            for spot, env in zip(env_spots, envs, strict=True):
                if env:
                    self.refer(file, spot, env, self.draft.file_target(env), f"{key}.env_file")
        else:
            envs = [posixpath.join(base, ".env")]
        variables = {**self.variables([env for env in envs if env], file.variables)}
        if folder_spot:
            file.document.remove_pair(item, folder_spot)
            self.draft.change(
                self.draft.place(file, folder_spot.key, f"{key}.project_directory"),
                "removed",
                "paths are relative to the file that they are in, and were made so",
            )
        for spot, path in zip(spots, paths, strict=True):
            target = self._target(path)
            self.compose(path, target, base, variables, self.draft.place(file, spot, key))
            self.refer(file, spot, path, target, key)
