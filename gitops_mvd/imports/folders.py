"""The folders on the host with the secrets of services, and the secrets of the top level that move there.  Pure.

A secret of Compose is a file of the project, or a variable.  Both would be in Git here.  So each service that has any
gets a folder that the host keeps outside of Git, mounted where it looks for its secrets.
"""

from __future__ import annotations

import itertools
import posixpath

from gitops_mvd.imports.document import Pair, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Part, Place, Secret
from gitops_mvd.imports.load import Loader

IN_CONTAINER = "/run/secrets"


class Folders:
    """What is mounted in addition, collected until `mount`."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        sources = [item.real for part in draft.parts() for item in _items(part.spot.get("volumes"))]
        taken = any(
            it.value.startswith(("./secrets", "secrets")) for spot in sources for it in spot.below() if it.scalar
        )
        self._root = "app-secrets" if taken else "secrets"
        self.mounts: dict[tuple[int, str], tuple[ComposeFile, dict[str, None]]] = {}
        self._names: dict[tuple[str, str], str] = {}  # service and file in its folder -> where the container reads it

    def possible(self, file: ComposeFile, services: tuple[str, ...]) -> bool:
        """Can each of the services be given a further mount, without a change of what others have?"""
        return all(self._spot(file, service) is not None for service in services)

    def give(self, file: ComposeFile, service: str, name: str) -> str:
        """Let a service read the secret `name`; returns the path on the host where it has to be."""
        self._add(file, service, self._folder(service), IN_CONTAINER)
        self._names.setdefault((service, name), posixpath.join(IN_CONTAINER, name))
        return self.draft.host_path(f"{self._folder(service)}/{name}")

    def give_at(self, file: ComposeFile, service: str, name: str, target: str) -> str:
        """The same, for a secret that is read at a path of its own; its file has a name that no other one has."""
        names = itertools.chain([name], (f"{number}-{name}" for number in itertools.count(2)))
        name = next(it for it in names if self._names.setdefault((service, it), target) == target)
        path = self.draft.host_path(f"{self._folder(service)}/{name}")
        self.mounts.setdefault((id(file), service), (file, {}))[1][f"{path}:{target}:ro"] = None
        return path

    def mount(self) -> None:
        """Write the mounts that were given."""
        for (_, service), (file, mounts) in self.mounts.items():
            document, spot = file.document, self._spot(file, service)
            assert spot is not None
            assert spot.pairs is not None
            volumes = spot.get("volumes")
            if volumes is None:
                document.add_pair(spot, spot.pairs[-1], "volumes", list(mounts))
            else:
                for mount in mounts:
                    document.add_item(volumes, mount)
            line = next((pair.key for pair in spot.pairs if pair.key.value == "volumes"), file.services[service])
            at = self.draft.place(file, line, f"services.{service}.volumes")
            for mount in mounts:
                self.draft.change(
                    at,
                    f"{mount} added",
                    "a folder of the host, outside of Git, has the secrets of this service",
                )

    def _add(self, file: ComposeFile, service: str, folder: str, target: str) -> None:
        mount = f"{self.draft.reference(file, folder)}:{target}:ro"
        self.mounts.setdefault((id(file), service), (file, {}))[1][mount] = None

    def _folder(self, service: str) -> str:
        return f"{self._root}/{service}"

    def _spot(self, file: ComposeFile, service: str) -> Spot | None:
        """The service's own mapping, if a mount can be added to it."""
        spot = file.services.get(service)
        if spot is None or not spot.real.pairs:
            return None
        if spot.target and sum(other.real is spot.real for other in file.services.values()) > 1:
            return None
        volumes = spot.real.get("volumes")
        if volumes is None:
            return spot.real if spot.lookup("volumes") is None else None
        usable = not volumes.target and bool(volumes.items) and not file.document.is_shared(volumes)
        return spot.real if usable else None


def _items(spot: Spot | None) -> list[Spot]:
    return (spot.real.items or []) if spot else []


def move_secrets(draft: Draft, loader: Loader, folders: Folders) -> None:
    """Take `secrets` of the top level out of all files, and let services read them from their folders.

    It is the last to give secrets, so that a name of its own choice is not one that another secret must have.
    """
    declared: dict[str, tuple[ComposeFile, Pair]] = {}
    for file in draft.files:
        for name, pair in file.section("secrets").items():
            declared.setdefault(name, (file, pair))
    kept = {name for name, (_, pair) in declared.items() if not draft.is_secret({name, f"secrets.{name}"})}
    stuck: set[str] = set()
    grants = [(part, *grant) for part in draft.parts() for grant in _grants(part)]
    for part, _, _, name, _ in grants:
        if name in declared and name not in kept and not folders.possible(part.file, part.services):
            stuck.add(name)
            draft.problem(
                draft.place(part.file, part.spot, f"{part.key}.secrets"),
                f"the secret {name} cannot be moved out of Git: give each of these services `volumes` of its own",
            )
    moved = declared.keys() - kept - stuck
    for part, _, _, name, target in grants:
        if name in moved and posixpath.dirname(target) == IN_CONTAINER:
            for service in part.services:
                folders.give(part.file, service, posixpath.basename(target))
    for part in draft.parts():
        _take_grants(draft, loader, folders, part, declared, moved)
    for file in draft.files:
        _take_section(draft, file, moved)


def _grants(part: Part) -> list[tuple[Pair, Spot, str, str]]:
    """Each secret of a service: its pair, its item, its name, and where the container looks for it."""
    pair = part.spot.pair("secrets")
    found = []
    for item in pair.value.real.items or () if pair else ():
        assert pair is not None
        source = item.real.get("source") if item.real.pairs is not None else item
        target = item.real.get("target") if item.real.pairs is not None else None
        if source is not None and source.real.scalar:
            name = source.real.value
            found.append((pair, item, name, posixpath.join(IN_CONTAINER, target.real.value if target else name)))
    return found


def _take_grants(
    draft: Draft,
    loader: Loader,
    folders: Folders,
    part: Part,
    declared: dict[str, tuple[ComposeFile, Pair]],
    moved: set[str],
) -> None:
    grants = _grants(part)
    taken = [grant for grant in grants if grant[2] in moved]
    if not taken:
        return
    pair, document = taken[0][0], part.file.document
    for _, item, name, target in taken:
        at = draft.place(part.file, item, f"{part.key}.secrets")
        folder, file = posixpath.split(target)
        for service in part.services:
            if folder == IN_CONTAINER:
                path = folders.give(part.file, service, file)
            else:
                path = folders.give_at(part.file, service, name, target)
            origin, declaration = declared[name]
            at_top = draft.place(origin, declaration.key, f"secrets.{name}")
            source = _origin(draft, loader, origin, declaration) or at_top
            draft.secrets.append(Secret(at_top, name, (service,), "it is a secret", source, path))
        draft.change(at, f"{name} removed", f"{target} now comes from a folder of the host, and not from Git")
    if len(taken) == len(pair.value.real.items or ()):
        document.remove_pair(part.spot, pair)
    else:
        for _, item, _, _ in taken:
            document.remove_item(pair.value, item)


def _origin(draft: Draft, loader: Loader, file: ComposeFile, declaration: Pair) -> Place | None:
    """The file that has the content of a secret so far; None if its declaration names none that is known."""
    spot = declaration.value.real.get("file")
    path = loader.path(file, spot.real.value) if spot is not None and spot.real.scalar else ""
    return Place(draft.shown(path), 0) if path else None


def _take_section(draft: Draft, file: ComposeFile, moved: set[str]) -> None:
    pair = file.document.root.pair("secrets") if file.document.root else None
    entries = file.section("secrets")
    taken = [entry for name, entry in entries.items() if name in moved]
    if not pair or not taken or not file.document.root:
        return
    for entry in taken:
        at = draft.place(file, entry.key, f"secrets.{entry.key.value}")
        draft.change(at, "removed", "its content would be in Git: services read it from a folder of the host")
    if len(taken) == len(entries):
        file.document.remove_pair(file.document.root, pair)
    else:
        for entry in taken:
            file.document.remove_pair(pair.value, entry)
