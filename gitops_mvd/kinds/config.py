"""`config`: the files that are mounted in a service's containers, and its environment as an env file.

A folder for each service, `<files>/<instance>/`, which only root gets into:

    env             whose it is, and the environment in the verbatim format of `docker --env-file`, for people
    files/0/file    the service's first `File`, if it is a single one
    files/1/...     its second, if it is a folder
    secrets/0       the first of the secrets that the environment refers to, in the order of their names

With `userns-remap`, the files belong to whoever of this host the users of the container are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG
from types import MappingProxyType
from typing import Any

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Resource, Role, Service, digest
from gitops_mvd.core.redact import learn
from gitops_mvd.core.specs import DigestSpec, secrets_of_environment
from gitops_mvd.kinds import Tools
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.state.files import Entry, remove_tree, write_tree

ENV, SECRETS = "env", "secrets"
NOTHING: Mapping[str, bytes] = MappingProxyType({})
LONGEST_LINE_BYTES = 60_000  # the client reads lines of up to 64 KiB

Stamp = tuple[int, ...]
_stamp = attrgetter("st_mode", "st_uid", "st_gid", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class Configs:
    name = "config"
    after: tuple[str, ...] = ()
    role = Role.SUPPORT
    prunes = True
    keeps_previous = False

    def __init__(
        self, folder: Path, secrets: Secrets, container_root: Callable[[], tuple[int, int]] = lambda: (0, 0)
    ) -> None:
        """`container_root` is the user and the group of this host that root of a container is."""
        self._folder = folder
        self._secrets = secrets
        self._container_root = container_root
        self._seen: dict[str, tuple[dict[str, Stamp], Resource]] = {}
        self._seen_with = (0, 0)  # as container root

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            digests = {path: service.secrets[name] for path, name in secret_paths(service).items()}
            entries = layout(app.name, service)
            if _is_not_remapped(service):
                user, group = self._container_root()
                entries = _shifted(entries, -user, -group)
            spec = DigestSpec(digest=_digest(entries, digests))
            yield Resource(self.name, service.instances(app.name)[0], app.name, service.name, spec, service)

    def observe(self) -> Iterable[Resource]:
        """Reads only what changed since the last time, by its stamps on the disk."""
        seen: dict[str, tuple[dict[str, Stamp], Resource]] = {}
        names = _names(self._folder)
        if names and (root := self._container_root()) != self._seen_with:
            self._seen, self._seen_with = {}, root
        try:
            for name in names:
                stamps = dict(_stamps(os.path.join(self._folder, name)))
                known = self._seen.get(name)
                resource = known[1] if known and known[0] == stamps else self._read(name, stamps)
                if resource:
                    seen[name] = stamps, resource
        except OSError as error:
            raise Unavailable(f"cannot read {error.filename or self._folder}: {error.strerror}") from error
        self._seen = seen
        return [resource for _, resource in seen.values()]

    def _read(self, name: str, stamps: Mapping[str, Stamp]) -> Resource | None:
        """The resource behind a folder; None if no env file says whose it is."""
        if ENV not in stamps:
            return None
        try:
            found = {path: _entry(self._folder / name / path, stamp) for path, stamp in stamps.items()}
            user, group = self._seen_with
            found = _shifted(found, -user, -group)
            owner = json.loads(found[ENV].content.partition(b"\n")[0].removeprefix(b"# "))
            secrets = {path: found[path].content for path in owner.get("secrets", ())}
            if texts := [content.decode("utf-8", "replace") for content in secrets.values()]:
                learn(f"files {owner['app']}/{owner['service']}", *texts)
            digests = {path: self._secrets.digest_of(content) for path, content in secrets.items()}
            spec = DigestSpec(digest=_digest(found, digests))
            return Resource(self.name, name, owner["app"], owner["service"], spec)
        except (ValueError, TypeError, KeyError, FileNotFoundError):
            return None

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            folder = self._folder / change.resource.name
            if not change.to:
                remove_tree(folder, last=ENV)
            elif isinstance(change.to.payload, Service):  # else it is what was found, and nothing was removed from it
                service = change.to.payload
                if why := refusal(service):
                    raise StepFailed(f"{change.to.app}/{change.to.service}: {why}")
                contents = {name: self._secrets.content(name, digest) for name, digest in service.secrets.items()}
                user, group = (0, 0) if _is_not_remapped(service) else self._container_root()
                write_tree(folder, _shifted(layout(change.to.app, service, contents), user, group))


def layout(app: str, service: Service, contents: Mapping[str, bytes] = NOTHING) -> dict[str, Entry]:
    """The files of a service's folder; its secrets have the `contents` of their names, and are empty without.  Pure."""
    owner: dict[str, Any] = {"app": app, "service": service.name}
    if paths := secret_paths(service):
        owner["secrets"] = list(paths)
    lines = [f"# {json.dumps(owner)}", *(_line(key, value) for key, value in sorted(service.environment.items())), ""]
    entries = {ENV: Entry(_bytes("\n".join(lines)), 0o600)}
    for number, file in enumerate(service.files):
        secrets = {path: contents.get(name, b"") for path, name in file.secrets.items()}
        for path, content in {**{path: _bytes(text) for path, text in file.files.items()}, **secrets}.items():
            entries[f"files/{number}/{path or 'file'}"] = Entry(content, file.mode, file.uid, file.gid)
    for path, name in secret_paths(service).items():
        entries.setdefault(path, Entry(contents.get(name, b""), 0o600))
    return entries


def _is_not_remapped(service: Service) -> bool:
    return service.run.get("userns_mode") == "host"


def _shifted(entries: Mapping[str, Entry], user: int, group: int) -> dict[str, Entry]:
    """The same files, of users and groups with so much higher numbers."""
    return {path: replace(it, uid=it.uid + user, gid=it.gid + group) for path, it in entries.items()}


def secret_paths(service: Service) -> dict[str, str]:
    """The files of a service's folder that are secrets, each with the name of that.  Pure."""
    of_environment = enumerate(secrets_of_environment(service))
    of_files = enumerate(service.files)
    return {
        **{f"{SECRETS}/{number}": name for number, name in of_environment},
        **{f"files/{n}/{path or 'file'}": name for n, file in of_files for path, name in file.secrets.items()},
    }


def _line(key: str, value: str) -> str:
    """A variable as `docker --env-file` reads it: a line as it is, without quotes or escapes."""
    line = f"{key}={value}"
    if set(line) & set("\n\r\0") or len(_bytes(line)) > LONGEST_LINE_BYTES:
        return f"# {key!r} is more than a line of such a file can hold"
    return line


def refusal(service: Service) -> str:
    """Why the files of a service cannot be written as they are, or "".  Pure."""
    for path in {path for file in service.files for path in (*file.files, *file.secrets)}:
        if path.startswith("/") or ".." in path.split("/"):
            return f"the file {path!r} leads out of its folder"
    return ""


def _digest(entries: Mapping[str, Entry], digests: Mapping[str, str]) -> str:
    """The digest of files; the contents of some have their own `digests`, by path."""
    content = {path: digests.get(path) or hashlib.sha256(e.content).hexdigest() for path, e in entries.items()}
    return digest({path: [e.mode, e.uid, e.gid, content[path]] for path, e in entries.items()})


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no bytes were behind it: it is refused before it is written
        return text.encode("utf-8", "surrogatepass")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith("mvd-"))
    except FileNotFoundError:
        return []


def _stamps(folder: str, below: str = "") -> Iterator[tuple[str, Stamp]]:
    """Every path below a folder, but for the folders, with all that changes when it is changed."""
    try:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(folder)]
    except (NotADirectoryError, FileNotFoundError):  # it is not a managed one, or its app was changed meanwhile
        return
    for name, stat in found:
        if S_ISDIR(stat.st_mode):
            yield from _stamps(f"{folder}/{name}", f"{below}{name}/")
        else:
            yield below + name, _stamp(stat)


def _entry(path: Path, stamp: Stamp) -> Entry:
    mode, uid, gid, *_ = stamp
    regular = S_ISREG(mode)  # anything else was not written by mvd: its mode makes another digest
    return Entry(path.read_bytes() if regular else b"", S_IMODE(mode) if regular else mode, uid, gid)


def connect(tools: Tools) -> Configs:
    return Configs(tools.files, tools.secrets, lambda: tools.engine.container_root())
