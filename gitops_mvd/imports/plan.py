"""A Compose project → the folder of an app, with every change and its reason, or all that is in the way.  Pure.

    found = plan(Request("/home/me/nextcloud"), source, FolderTree("."))

Nothing is written here: `found.files` is what the folder is to have, if there are neither problems nor questions.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gitops_mvd.config.tables import Invalid
from gitops_mvd.config.yamltree import Node, Sink
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.model import Problem, digest
from gitops_mvd.core.ports import Tree
from gitops_mvd.imports.builds import Builds
from gitops_mvd.imports.draft import Brought, Change, Data, Draft, Place, Question, Request, Secret
from gitops_mvd.imports.environment import Environment
from gitops_mvd.imports.finish import Finish, Result, leaks
from gitops_mvd.imports.folders import Folders, move_secrets
from gitops_mvd.imports.load import Loader, app_name, find
from gitops_mvd.imports.mounts import Mounts
from gitops_mvd.imports.notes import notes
from gitops_mvd.imports.repairs import mend
from gitops_mvd.imports.source import Source
from gitops_mvd.imports.texts import Texts
from gitops_mvd.imports.variables import as_env_value, evaluate, names_in
from gitops_mvd.manifest import read_fleet, review
from gitops_mvd.manifest.app_files import COMPOSE
from gitops_mvd.manifest.composition import Composition
from gitops_mvd.manifest.interpolate import PROJECT_NAME, Variables
from gitops_mvd.manifest.kong_entities import GATEWAY_APP
from gitops_mvd.manifest.project import APPS
from gitops_mvd.manifest.reading import is_app_name


@dataclass(frozen=True)
class Imported:
    """What an import is to write, and what it has to say; no text of it has a secret.

    `others` are Compose files of the folder that were not taken.  `volumes` are named volumes: where they are declared,
    their name so far, and the one that they will have.  `keepable` is what would be no problem as `--not-secret`.
    """

    app: str
    root: str
    sources: tuple[str, ...]
    files: Mapping[str, Brought]
    changes: Sequence[Change] = ()
    secrets: Sequence[Secret] = ()
    data: Sequence[Data] = ()
    volumes: Sequence[tuple[Place, str, str]] = ()
    notes: Sequence[Change] = ()
    questions: Sequence[Question] = ()
    problems: Sequence[Problem] = ()
    others: Sequence[str] = ()
    keepable: Sequence[str] = ()
    services: int = 0

    @property
    def complete(self) -> bool:
        return not self.problems and not self.questions


@dataclass
class _Overlay:
    """A config repository with the files of one more app."""

    tree: Tree
    folder: str
    files: Mapping[str, Brought] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, path: str) -> bytes:
        inner = self._inner(path)
        if inner is None:
            return self.tree.read(path)
        if inner not in self.files:
            raise FileNotFoundError(path)
        return self.files[inner].content

    def names(self, folder: str) -> Sequence[str]:
        inner = self._inner(folder)
        if inner is not None:
            start = f"{inner}/" if inner else ""
            below = [name.removeprefix(start) for name in self.files if name.startswith(start)]
            return sorted({first + slash for first, slash, _ in (name.partition("/") for name in below)})
        names = {*self.tree.names(folder)}
        if folder == "":
            names.add(f"{APPS}/")
        elif folder == APPS:
            names.add(f"{self.folder.removeprefix(f'{APPS}/')}/")
        return sorted(names)

    def oid(self, path: str) -> str:
        inner = self._inner(path)
        if inner is None:
            return self.tree.oid(path)
        found = [name for name in self.files if not inner or name == inner or name.startswith(f"{inner}/")]
        return digest({name: self._digest(name) for name in found}) if found else ""

    def _digest(self, name: str) -> str:
        if name not in self.digests:
            self.digests[name] = digest(self.files[name].content.hex())
        return self.digests[name]

    def kind(self, path: str) -> str:
        inner = self._inner(path)
        if inner is None:
            return self.tree.kind(path)
        return "file" if inner in self.files else "folder" if self.oid(path) else ""

    def _inner(self, path: str) -> str | None:
        """A path from the app's folder; None for one that is not in it."""
        if path == self.folder:
            return ""
        start = f"{self.folder}/"
        return path.removeprefix(start) if path.startswith(start) else None


def plan(request: Request, source: Source, repository: Tree) -> Imported:
    """What an import would write.  Raises MvdError if there is no project, or no name for the app."""
    root, paths, others = find(request.path, source)
    draft = Draft(request, source, root)
    try:
        fleet = read_fleet(repository)
    except ManifestError:
        fleet = None
    hosts = list(fleet.hosts.values()) if fleet else []
    draft.given = frozenset.intersection(*(frozenset(host.variables) for host in hosts)) if hosts else frozenset()
    loader = Loader(draft)
    loader.project(paths)
    project = _project_name(draft)
    draft.app = request.app or project
    _check_name(draft.app, request)
    if f"{draft.app}/" in repository.names(APPS) or repository.oid(f"{APPS}/{draft.app}"):
        raise MvdError(
            f"{APPS}/{draft.app} exists already: an import never overwrites",
            "import it under another name, --app NAME, or remove that folder first",
        )
    if draft.problems or not draft.files:
        return _imported(draft, (), {}, others)
    _check_values(draft)
    services, results = _convert(draft, loader, project, paths)
    files = _assemble(draft, results, paths)
    leaks(draft, results)
    if not draft.problems:
        _validate(draft, repository, files, results)
    return _imported(draft, tuple(draft.shown(path) for path in paths), files, others, len(services))


def _convert(
    draft: Draft, loader: Loader, project: str, paths: Sequence[str]
) -> tuple[Mapping[str, Node], list[Result]]:
    """Every step, in the order in which each has what it needs; returns the services as Compose merges them."""
    folders = Folders(draft)
    environment = Environment(draft, loader, folders)
    environment.read_env_files()
    services = _merged(draft, paths)
    for file in draft.files:
        for name, spot in file.services.items():
            image = spot.lookup("image")
            draft.images[name] = evaluate(image.real.value, file.variables).text if image else ""
    for name, node in services.items():
        image_node = node.value.get("image") if isinstance(node.value, dict) else None
        if image_node is not None:
            draft.images[name] = draft.request.images.get(name) or str(image_node.value)
    environment.take_out()
    Texts(draft, environment, folders).take_out()
    move_secrets(draft, loader, folders)
    mounts = Mounts(draft, loader)
    mounts.place()
    mounts.bring_configs()
    mounts.bring_secrets()
    Builds(draft, loader).images(services)
    mend(draft)
    folders.mount()
    notes(draft, project)
    return services, Finish(draft).run()


def _project_name(draft: Draft) -> str:
    """The name of the project, as `docker compose` finds it: the variable goes before the `name` in the file."""
    for file in draft.files[:1]:
        if name := app_name(file.variables.get(PROJECT_NAME, "")):
            return name
        spot = file.document.root.get("name") if file.document.root else None
        if spot is not None and spot.real.scalar and (name := app_name(evaluate(spot.real.value, file.variables).text)):
            return name
    return app_name(draft.root.rstrip("/").rpartition("/")[2])


def _check_name(app: str, request: Request) -> None:
    if app == GATEWAY_APP:
        raise MvdError(f"{app} is the name of the app made from kong/", "choose another one: --app NAME")
    if not is_app_name(app):
        what = f"{app!r} is not a name of an app" if request.app else "the folder's name makes no name of an app"
        raise MvdError(f"{what}: it has a-z, 0-9, `_` and `-`, at most 63 of them", "choose one: --app NAME")


def _check_values(draft: Draft) -> None:
    for name in sorted(draft.request.refused):
        draft.problem(
            Place(draft.shown(draft.files[0].path), 1),
            f"--set {name} would write a secret into Git: leave it out, and provide it as the report then says; or "
            f"add --not-secret {name}",
        )


def _merged(draft: Draft, paths: Sequence[str]) -> Mapping[str, Node]:
    """The services as Compose merges them, with the project's own variables; mistakes are for the validation."""
    texts = {file.target: Brought(file.document.edited().encode()) for file in draft.files}
    texts |= {env.target: Brought(env.text.encode("utf-8", "surrogateescape")) for env in draft.env_files.values()}
    tree = _Overlay(_Nothing(), APPS, texts)
    sink: Sink = []
    unset = {name: "" for file in draft.files for name in names_in(file.document.text)}
    try:
        mains = [f"{APPS}/{draft.targets[path]}" for path in paths]
        node = Composition(tree, sink).load(mains, Variables({**unset, **draft.files[0].variables}))
    except (Invalid, ManifestError):
        return {}
    services = node.value.get("services") if node is not None and isinstance(node.value, dict) else None
    return services.value if services is not None and isinstance(services.value, dict) else {}


class _Nothing:
    """A Tree without files."""

    def read(self, path: str) -> bytes:
        raise FileNotFoundError(path)

    def names(self, folder: str) -> Sequence[str]:
        return ()

    def oid(self, path: str) -> str:
        return ""

    def kind(self, path: str) -> str:
        return ""


def _assemble(draft: Draft, results: Sequence[Result], paths: Sequence[str]) -> dict[str, Brought]:
    files = dict(draft.brought)
    for result in results:
        content = result.second.edited().encode("utf-8", "surrogateescape")
        mounted = files.get(result.target)
        files[result.target] = Brought(content, mounted is not None and mounted.executable, result.file)
    if len(paths) > 1:
        names = [draft.targets[path] for path in paths]
        shown = [draft.shown(path) for path in paths]
        files[COMPOSE] = Brought(
            f"# {shlex.join(shown)}, merged as `docker compose` merges them.\n"
            f"include:\n  - path: [{', '.join(names)}]\n".encode()
        )
        draft.change(
            Place(shown[1], 1),
            f"merged over {shown[0]}",
            f"`docker compose` does so, too; without it: mvd import {shlex.quote(paths[0])}",
        )
    if draft.request.values:
        env = files.get(".env", Brought(b""))
        start = env.content if not env.content or env.content.endswith(b"\n") else env.content + b"\n"
        lines = "".join(f"{name}={as_env_value(value)}\n" for name, value in draft.request.values.items())
        files[".env"] = Brought(start + lines.encode(), origin=env.origin)
        added = f"{', '.join(draft.request.values)} added"
        draft.change(Place(".env", 0), added, "a variable without a value is an error here; these are from --set")
    return files


def _validate(draft: Draft, repository: Tree, files: Mapping[str, Brought], results: Sequence[Result]) -> None:
    """Read the result as `mvd validate` would; mistakes are reported at the lines of the project."""
    folder = f"{APPS}/{draft.app}"
    by_target = {result.target: result for result in results}
    found = review(_Overlay(repository, folder, files))
    asked = {(at.file, at.line) for question in draft.questions for at in question.places}

    def place(problem: Problem) -> Place | None:
        if not problem.file.startswith(f"{folder}/"):
            return None
        target = problem.file.removeprefix(f"{folder}/")
        result = by_target.get(target)
        if result is None:
            origin = files[target].origin if target in files else ""
            return Place(origin or target, problem.line, problem.key)
        return Place(result.file, result.source_line(problem.line), problem.key)

    outside = [problem for problem in found.problems if place(problem) is None]
    for problem in found.problems:
        at = place(problem)
        if at is not None and not ((at.file, at.line) in asked and "is not set" in problem.message):
            draft.problem(at, problem.message)
    if outside and not draft.problems:
        before = set(review(repository).problems)
        draft.problems |= {problem: None for problem in outside if problem not in before}
    for note in found.notes:
        at = place(note)
        if at is not None and not (".volumes" in note.key and "in the repository: it is " in note.message):
            draft.note(at, note.message)  # but what is said of mounts has been said better


def _imported(
    draft: Draft, sources: tuple[str, ...], files: Mapping[str, Brought], others: Sequence[str], services: int = 0
) -> Imported:
    clean = draft.struck_out

    return Imported(
        draft.app,
        draft.root,
        sources,
        dict(sorted(files.items())),
        sorted({Change(it.at, clean(it.what), clean(it.why)) for it in draft.changes}),
        draft.secrets,
        draft.data,
        draft.volumes,
        sorted({Change(it.at, clean(it.what), clean(it.why)) for it in draft.notes}),
        [question._replace(hint=clean(question.hint)) for question in draft.questions],
        sorted(Problem(it.file, it.line, it.key, clean(it.message)) for it in draft.problems),
        others,
        sorted(draft.kept),
        services,
    )
