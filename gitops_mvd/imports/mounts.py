"""Mounted files and folders: what is configuration comes into Git, what is data stays a folder of the host.  Pure.

Told apart without reading any data: by what the mount says (`:ro`), by what lies there, and by where it is mounted.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from gitops_mvd.imports.document import Spot
from gitops_mvd.imports.draft import Brought, ComposeFile, Data, Draft, Part, Place, several
from gitops_mvd.imports.load import Loader
from gitops_mvd.imports.secrets import secret_line
from gitops_mvd.imports.source import FILE, FOLDER, MISSING
from gitops_mvd.manifest.mounts import MAX_MOUNTED
from gitops_mvd.manifest.stand_ins import stand_in
from gitops_mvd.manifest.storage import split_volume

MOST_FILES = 300  # of one mounted folder
MOST_FOLDERS = 12  # one in another
_DATA_FILE = re.compile(
    r"(?i).*\.(?:db|sqlite3?|mdb|log|pid|sock|lock|bak|dump|gz|zip|tar|tgz|xz|zst|key|p12|pfx|jks)|acme\.json"
)
# Where programs read and never write, so that `:ro` is left out by habit only.
_CONFIG_TARGET = re.compile(
    r"/(?:docker-entrypoint[\w.-]*|usr/share/(?:nginx/html|logstash/(?:pipeline|config))|usr/local/(?:etc|apache2)|"
    r"etc/(?:nginx|apache2|httpd|haproxy|caddy|prometheus|alertmanager|grafana|loki|promtail|tempo|mimir|alloy|otel[\w-]*|telegraf|"
    r"fluent[\w-]*|blackbox_exporter|mysql|redis|rabbitmq|php|supervisor|cron\.d|postgresql|vector|nats|envoy|varnish))(?:/.*)?"
)
_CONFIG_FILE = re.compile(
    r"(?i).*\.(?:conf|cfg|cnf|ini|ya?ml|toml|json|properties|env|xml|acl|users|htpasswd|netrc)|[^.]+|\.\w+"
)
_HOMES = re.compile(r"/(?:home/[^/]+|root|Users/[^/]+)(?:/|$)")
_ENGINE = re.compile(r"(?:/var)?/run/(?:docker|containerd/containerd|podman/podman)\.sock")


class _Left(Exception):
    """Why something stays on the host."""


@dataclass
class _Mount:
    """A mount of the host in a Compose file; `spot` is the scalar with its source."""

    file: ComposeFile
    spot: Spot
    written: str
    rest: str  # of the short form, behind the source
    target: str
    read_only: bool
    services: tuple[str, ...]
    at: Place
    path: str = ""


class Mounts:
    """Decides what comes along, and says where the rest has to be."""

    def __init__(self, draft: Draft, loader: Loader) -> None:
        self.draft = draft
        self.loader = loader
        self._chosen: dict[str, dict[str, Brought]] = {}  # path on the disk -> the files there, by the path below it
        self._copies: dict[str, str] = {}  # path on the disk of a Compose file -> where the copy for containers goes

    def place(self) -> None:
        """All mounts of all services; what one of them writes to, the host keeps for all."""
        mounts = self._mounts()
        reasons = {mount.path: reason for mount in mounts if (reason := self._why_kept(mount))}
        self._gather(reasons)
        for mount in mounts:
            why = reasons.get(mount.path, "")
            if not why and mount.path in self._chosen and (above := self._above(mount.path, reasons)):
                why = f"it lies in {self.draft.shown(above)}, which the host keeps"
            if why:
                self._keep(mount, why)
            elif mount.path in self._chosen:
                self._choose(mount)

    def _gather(self, reasons: dict[str, str]) -> None:
        """Read what is chosen, but for what the host keeps of it; `reasons` gets those of what cannot be in Git."""
        kept = frozenset(reasons)
        for path in self._chosen:
            if path not in kept and not self._above(path, kept):
                try:
                    self._chosen[path] = self._gathered(path, self.draft.source.look(path).kind == FOLDER, kept)
                except _Left as left:
                    reasons[path] = str(left)

    def _above(self, path: str, kept: Iterable[str]) -> str:
        """The path in `kept` that a path lies in, "" if there is none; in the folder of the project, all do."""
        return next((it for it in kept if path.startswith(f"{it}/") and it != self.draft.root), "")

    def bring_configs(self) -> None:
        """The files of `configs` at the top level."""
        for file in self.draft.files:
            for name, pair in file.section("configs").items():
                spot = pair.value.real.get("file")
                if spot is None or not spot.real.scalar:
                    continue
                at = self.draft.place(file, spot.real, f"configs.{name}.file")
                path = self.loader.path(file, spot.real.value)
                if not path:
                    continue
                if target := self._bring_or_report(path, at):
                    self.loader.refer(file, spot.real, path, target, at.key)

    def bring_secrets(self) -> None:
        """The files of `secrets` that somebody says are none."""
        for file in self.draft.files:
            for name, pair in file.section("secrets").items():
                spot = pair.value.real.get("file")
                if spot is not None and spot.real.scalar and not self.draft.is_secret({name, f"secrets.{name}"}):
                    path = self.loader.path(file, spot.real.value)
                    at = self.draft.place(file, spot.real, f"secrets.{name}.file")
                    if path and (target := self._bring_or_report(path, at)):
                        self.loader.refer(file, spot.real, path, target, at.key)

    # ---- the mounts --------------------------------------------------------------------------------------------------

    def _mounts(self) -> list[_Mount]:
        found: dict[int, _Mount] = {}
        for part in self.draft.parts():
            volumes = part.spot.get("volumes")
            for item in (volumes.real.items or ()) if volumes else ():
                mount = self._mount(part, item.real)
                if mount is None:
                    continue
                known = found.setdefault(id(mount.spot), mount)
                known.services = tuple(dict.fromkeys((*known.services, *part.services)))
        return list(found.values())

    def _mount(self, part: Part, item: Spot) -> _Mount | None:
        file = part.file
        at = self.draft.place(file, item, f"{part.key}.volumes")
        if item.pairs is not None:
            source, target, kind = item.get("source"), item.get("target"), item.get("type")
            if not source or not target or not source.real.scalar or (kind and kind.real.value != "bind"):
                return None
            flag = item.get("read_only")
            written, rest = source.real.value, ""
            mount = _Mount(file, source.real, written, rest, target.real.value, _is_true(flag), part.services, at)
        else:
            if not item.scalar or not item.value:
                return None
            written, rest = split_source(item.value)
            whole = self.loader.value(file, item.value)
            source_text, target_text, modes = split_volume(whole)
            if not rest or not source_text.startswith((".", "/", "~")):
                return None
            mount = _Mount(file, item, written, rest, target_text, "ro" in modes.split(","), part.services, at)
        mount.path = self.loader.path(file, mount.written)
        return mount if mount.path else None

    def _why_kept(self, mount: _Mount) -> str:
        """Why it stays on the host; "" if it is dealt with: brought along, of the host's own, or a mistake."""
        draft = self.draft
        look = draft.source.look(mount.path)
        inside = draft.inside(mount.path)
        absolute = self.loader.value(mount.file, mount.written).startswith("/")
        if not inside and absolute and not self._in_a_home(mount.path):
            self._of_the_host(mount, mount.path)
            return ""
        if look.real == "/" and mount.path != "/":
            draft.problem(mount.at, f"{draft.shown(mount.path)} is a link to /: mount the folder that is meant")
            return ""
        if look.kind in (FILE, FOLDER) and self._leads_away(mount.path, look.real):
            self._point(mount, look.real, f"{draft.shown(mount.path)} is a link to it")
            self._of_the_host(mount, look.real)
            return ""
        if inside == ".":
            return "it is the whole folder of the project"
        if look.kind not in (FILE, FOLDER):
            return "there is nothing yet" if look.kind == MISSING else f"it is {look.kind}"
        if not inside and not self.loader.value(mount.file, mount.written).startswith("."):
            return "it is in the home of a user"
        try:
            self._decide(mount, look.kind)
        except _Left as left:
            return str(left)
        return ""

    def _in_a_home(self, path: str) -> bool:
        home = self.draft.source.home
        return path == home or (path.startswith(f"{home}/") and home != "/") or bool(_HOMES.match(path))

    def _leads_away(self, path: str, real: str) -> bool:
        """Is it a link to a folder of the host that is no home and not the project's?"""
        root = self.draft.source.look(self.draft.root).real
        outside = not (real == root or real.startswith(f"{root}/"))
        return outside and bool(self.draft.inside(path)) and not self._in_a_home(real)

    def _of_the_host(self, mount: _Mount, path: str) -> None:
        if _ENGINE.fullmatch(path):
            self.draft.note(
                mount.at,
                f"{several(mount.services)} may command the whole server through {path}",
                "a host with a policy refuses that, unless its settings trust the app: `policy` (mvd docs settings)",
            )
        else:
            self.draft.note(
                mount.at,
                f"{path} is a path of the server",
                "a host with a policy refuses it, unless its settings list it: `policy.mounts` (mvd docs settings)",
            )

    def _decide(self, mount: _Mount, kind: str) -> None:
        """Is a mount for Git?  Raises _Left if it stays on the host."""
        if not mount.read_only:
            if kind == FILE and _DATA_FILE.fullmatch(posixpath.basename(mount.path)):
                raise _Left("a program writes to it")
            if kind == FOLDER and not _CONFIG_TARGET.fullmatch(posixpath.normpath(mount.target)):
                raise _Left("a program may write to it, as it is mounted without `:ro`")
        self._chosen.setdefault(mount.path, {})

    def _choose(self, mount: _Mount) -> None:
        """Bring a mount's files into Git."""
        target = self._copy_target(mount.path) or self.draft.target_of(mount.path)
        for inner, file in self._chosen[mount.path].items():
            self._bring(posixpath.join(mount.path, inner), posixpath.join(target, inner), file)
        if not mount.read_only:
            self.draft.note(
                mount.at,
                f"{self.draft.reference(mount.file, target)} is read-only now, as it comes from Git",
                f"if a program has to write to one of these, delete it from apps/{self.draft.app}: then the host keeps "
                f"it, below {self.draft.host_path('').rstrip('/')}",
            )
        self._refer(mount, target, "an app has its files in its own folder")

    def _keep(self, mount: _Mount, why: str) -> None:
        """Make it a folder of the app on the host."""
        draft = self.draft
        target = draft.target_of(mount.path)
        in_git = [*draft.brought, *(it.target for it in draft.files), *(it.target for it in draft.env_files.values())]
        if any(path == target or path.startswith(f"{target}/") for path in in_git):
            target = draft.free_target(f"{target}-data")
            draft.take(mount.path, target)
        look = draft.source.look(mount.path)
        source = "" if look.kind == MISSING else mount.path
        data = Data(mount.at, source, target, look.kind, mount.services, why)
        if not any((other.source, other.folder) == (data.source, data.folder) for other in draft.data):
            draft.data.append(data)
        host = draft.host_path(target)
        suffixes = posixpath.splitext(target)[1] and posixpath.splitext(mount.target)[1]
        if look.kind == FILE or (mount.read_only and suffixes):  # a path of the app's own would be taken for a folder's
            self._point(mount, host, "the host keeps it, and not Git")
        else:
            self._refer(mount, target, f"the host keeps it in a folder of the app, {host}")

    def _refer(self, mount: _Mount, target: str, why: str) -> None:
        reference = self.draft.reference(mount.file, target)
        folder = posixpath.dirname(mount.file.target)
        now = self.loader.value(mount.file, mount.written)
        if now.startswith("."):
            same = posixpath.normpath(posixpath.join(folder, now)) == posixpath.normpath(
                posixpath.join(folder, reference)
            )
            if same:
                return
        self._point(mount, reference, why)

    def _point(self, mount: _Mount, source: str, why: str) -> None:
        plain = source.isascii() and " " not in source
        if plain and mount.spot.value == mount.written + mount.rest:
            mount.file.document.rewrite(mount.spot, [(0, len(mount.written), source)])
        else:
            mount.file.document.write(mount.spot, source + mount.rest)
        self.draft.change(mount.at, f"{mount.written} → {source}", why)

    # ---- files -------------------------------------------------------------------------------------------------------

    def _bring_or_report(self, path: str, at: Place) -> str:
        """Take a file into the app's folder; returns where it is there, "" if it cannot be, which is a problem then."""
        try:
            file = self._gathered(path)[""]
        except _Left as left:
            self.draft.problem(at, f"{self.draft.shown(path)} cannot come into Git: {left}")
            return ""
        target = self._copy_target(path) or self.draft.file_target(path)
        self._bring(path, target, file)
        return target

    def _bring(self, path: str, target: str, file: Brought) -> None:
        """Take a file into the app's folder; an env file that containers read keeps the variables that no file uses."""
        path, target = path.rstrip("/"), target.rstrip("/")
        self.draft.brought[target] = file
        if env := self.draft.env_files.get(path):
            env.needed = True

    def _copy_target(self, path: str) -> str:
        """Where a Compose file goes for the containers that read it, without its edits; "" for any other file."""
        if path not in self._copies and any(file.path == path for file in self.draft.files):
            inside = self.draft.inside(path)
            self._copies[path] = self.draft.free_target(inside or posixpath.basename(path))
        return self._copies.get(path, "")

    def _gathered(self, path: str, folder: bool = False, kept: Container[str] = ()) -> dict[str, Brought]:
        """A file as "", or all files of a folder by the path below it, but those of `kept`.  Raises _Left."""
        files: dict[str, Brought] = {}
        total = 0
        for inner, file in self._files(path, "", 0, kept) if folder else [("", path)]:
            look = self.draft.source.look(file)
            shown = self.draft.shown(file)
            if look.kind != FILE:
                raise _Left(f"{shown} is {look.kind}")
            if look.why:
                raise _Left(f"cannot read {shown}: {look.why}")
            total += look.size
            if total > MAX_MOUNTED:
                raise _Left(f"it is more than {MAX_MOUNTED >> 20} MiB")
            if not _is_text(file):
                raise _Left(f"{shown} has a name that is not UTF-8")
            try:
                content = self.draft.source.read(file)
            except OSError as error:
                raise _Left(f"cannot read {shown}: {error.strerror}") from None
            if what := stand_in(content):
                raise _Left(f"{shown} {what.partition(',')[0]}")
            if why := self._why_secret(file, content):
                raise _Left(f"{shown} has a secret in it: {why}")
            files[inner] = Brought(content, look.executable, shown)
        if not files:
            raise _Left("it is empty")
        return files

    def _files(self, folder: str, inner: str, depth: int, kept: Container[str]) -> Iterator[tuple[str, str]]:
        """The files below a folder: the path from there, and the path on the disk."""
        source, draft = self.draft.source, self.draft
        if depth > MOST_FOLDERS:
            raise _Left(f"it has folders more than {MOST_FOLDERS} deep")
        try:
            names = source.names(folder, MOST_FILES + 1)
        except OSError as error:
            raise _Left(f"cannot read {draft.shown(folder)}: {error.strerror}") from None
        if len(names) > MOST_FILES:
            raise _Left(f"it has more than {MOST_FILES} files")
        count = 0
        for name in names:
            if name == ".git":
                continue
            path, below = f"{folder}/{name}", f"{inner}{name}"
            if path in kept:
                continue
            look = source.look(path)
            root = source.look(draft.root).real
            if not (
                look.real == root
                or look.real.startswith(f"{root}/")
                or look.real.startswith(f"{source.look(folder).real}/")
            ):
                raise _Left(f"{draft.shown(path)} is a link that leads out of it")
            if look.kind == FOLDER:
                if source.look(folder).real.startswith(f"{look.real}/") or look.real == source.look(folder).real:
                    raise _Left(f"{draft.shown(path)} is a link to a folder that it is in")
                for found in self._files(path, f"{below}/", depth + 1, kept):
                    count += 1
                    yield found
            else:
                count += 1
                yield below, path
            if count > MOST_FILES:
                raise _Left(f"it has more than {MOST_FILES} files")

    def _why_secret(self, path: str, content: bytes) -> str:
        """Why a file is not for Git; "" if it may be."""
        shown = self.draft.shown(path)
        if not self.draft.is_secret({shown, f"./{shown}", posixpath.basename(path)}):
            return ""
        text = content.decode("utf-8", "surrogateescape")
        if self.draft.withheld.are_in(text):
            return "one of the secrets that were taken out of other files"
        return secret_line(text, names=_CONFIG_FILE.fullmatch(posixpath.basename(path)) is not None)


def split_source(text: str) -> tuple[str, str]:
    """The source of a short mount as it is written, and the rest; a `:` in `${NAME:-default}` does not end it."""
    depth = 0
    for at, character in enumerate(text):
        if text.startswith("${", at):
            depth += 1
        elif character == "}" and depth:
            depth -= 1
        elif character == ":" and not depth:
            return text[:at], text[at:]
    return text, ""


def _is_true(spot: Spot | None) -> bool:
    return spot is not None and spot.real.value.lower() == "true"


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
