"""What a service has mounted: volumes, paths of the host, files of the repository, and folders of the app.  Pure.

A relative path is that of the repository, if something is there; else a folder that the app has on its host, for data.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from gitops_mvd.config.tables import Place, did_you_mean
from gitops_mvd.core.compose import Mount, Run
from gitops_mvd.core.model import File
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.composition import inside, read_content
from gitops_mvd.manifest.project import APPS, Project
from gitops_mvd.manifest.sealed import is_sealed, sealed_name
from gitops_mvd.manifest.stand_ins import in_the_way
from gitops_mvd.manifest.values import ServiceKeys

MAX_MOUNTED = 1 << 20  # bytes of one mounted folder or file of the repository
MAX_FOLDERS = 16
PLACEHOLDERS = frozenset({".gitkeep", ".keep", ".gitignore", ".gitattributes"})  # all that is in an empty folder of Git


def read_mounts(
    entries: Mapping[str, Place], values: ServiceKeys, project: Project, run: Run, sealed: dict[str, str]
) -> list[File]:
    """The files that are mounted; real mounts go into `run`, and encrypted files of the repository into `sealed`."""
    files: list[File] = []
    mounts: list[Mount] = []
    taken: dict[str, Place] = {}
    for at, mount in values.get("volumes", ()):
        _once(at, mount["target"], taken)
        if mount["type"] == "volume" and mount["source"]:
            if mount["source"] not in project.volumes:
                at.report(
                    f"the volume {mount['source']} is not declared: add it to `volumes:` at the top level, "
                    f"or write ./{mount['source']} for files of the repository or a folder of the app"
                )
                continue
            mounts.append({**mount, "source": project.volumes[mount["source"]][0]})
        elif mount["type"] == "bind" and not mount["source"].startswith("/"):
            path = at.attempt(inside, mount["source"])
            if path is not None and _is_in(project.tree, path, mount):
                files += filter(None, [at.attempt(_repository_file, mount, path, project.tree, sealed)])
            elif path is not None:
                mounts += filter(None, [at.attempt(_folder, mount, path, project)])
        else:
            mounts.append(mount)
    configs, secrets = values.get("configs", []), values.get("secrets", [])
    for section, grants, folder, known in (
        ("configs", configs, "/", project.configs),
        ("secrets", secrets, "/run/secrets/", project.secrets),
    ):
        for at, grant in grants:
            source = grant.get("source", "")
            if source not in known:
                at.report(f"there is no {source!r} in `{section}:` at the top level")
                continue
            target = posixpath.join(folder, grant.get("target", source))
            _once(at, target, taken)
            mode, uid, gid = grant.get("mode", 0o444), grant.get("uid", 0), grant.get("gid", 0)
            if secret := known[source].secret:
                sealed |= known[source].sealed
                files.append(File(target, {}, mode, uid, gid, secrets={"": secret}))
            else:
                files.append(File(target, {"": known[source].text}, mode, uid, gid))
    for at, line in values.get("tmpfs", ()):
        _once(at, line.partition(":")[0], taken)
    if "tmpfs" in values:
        run["tmpfs"] = [line for _, line in values["tmpfs"]]
    if mounts:
        run["volumes"] = mounts
    return files


def _once(at: Place, target: str, taken: dict[str, Place]) -> None:
    target = posixpath.normpath(target)
    if target in taken:
        at.report(f"mounts at {target}, where {taken[target].key} does already")
    taken.setdefault(target, at)


def _is_in(tree: Tree, path: str, mount: Mount) -> bool:
    """Is that path in the repository?  A folder that is only there to be written to is not: Git has no empty ones."""
    names = tree.names(path)
    is_placeholder = bool(names) and PLACEHOLDERS.issuperset(names) and not mount["read_only"]
    return bool(tree.oid(path)) and not is_placeholder


def _repository_file(place: Place, mount: Mount, path: str, tree: Tree, sealed: dict[str, str]) -> File:
    files = _gather(place, tree, path)
    encrypted = {name: text for name, text in files.items() if is_sealed(text.encode("utf-8", "surrogateescape"))}
    paths = {name: posixpath.join(path, name) if name else path for name in encrypted}
    sealed |= {paths[name]: text for name, text in encrypted.items()}
    secrets = {name: sealed_name(place, paths[name]) for name in encrypted}
    files = {name: text for name, text in files.items() if name not in encrypted}
    bind = mount.get("bind", {})
    if not mount["read_only"]:
        place.note(f"{mount['source']} is in the repository: it is mounted read-only, and cannot be written to")
    if "recursive" in bind:
        place.note("has `recursive`, which has no effect: nothing is mounted below files of the repository")
    # Git's executable bit is not in a Tree; a script that is mounted is there to be run.
    script = any(content.startswith("#!") for content in files.values())
    options = tuple(word for word in (bind.get("selinux"), bind.get("propagation")) if word)
    return File(mount["target"], files, mode=0o555 if script else 0o444, options=options, secrets=secrets)


def _folder(place: Place, mount: Mount, path: str, project: Project) -> Mount:
    """A folder of the app on the host, for what is not in the repository."""
    if why := in_the_way(project.tree, path):
        place.fail(why)
    source, home = mount["source"], f"{APPS}/{project.app}"
    if not path.startswith(f"{home}/"):
        place.fail(
            f"{source} is not in the repository, and leads out of the app's folder {home}: use ./path for a folder "
            "of the app on the host, a volume, or an absolute path"
        )
    named = path.removeprefix(f"{home}/")
    looks_like_file = _suffix(path) and _suffix(mount["target"])
    if looks_like_file and mount["read_only"]:
        folder, _, name = path.rpartition("/")
        hint = did_you_mean(name, project.tree.names(folder))
        place.fail(f"there is no file {path} in the repository{hint}: add it, or use an absolute path of the host")
    what = (
        "a folder, as Docker makes one; a file belongs in the repository" if looks_like_file else "kept like a volume"
    )
    where = "is empty" if project.tree.oid(path) else "is not"
    place.note(
        f"{source} {where} in the repository: it is /srv/mvd/{project.app}/{named} on the host by default, {what}"
    )
    return {**mount, "source": f"./{named}"}


def _suffix(path: str) -> str:
    """What makes a path look like that of a file: its suffix; `.d` is that of folders."""
    suffix = posixpath.splitext(path)[1]
    return suffix if suffix[1:2].isalpha() and suffix != ".d" else ""


def _gather(place: Place, tree: Tree, path: str) -> dict[str, str]:
    """A file, or a folder with all that is below it, as text."""
    found, size = {}, 0
    for name in _below(place, tree, path) if tree.names(path) else [""]:
        found[name] = read_content(place, tree, posixpath.join(path, name) if name else path)
        size += len(found[name])
        if size > MAX_MOUNTED:
            place.fail(f"is more than {MAX_MOUNTED >> 20} MiB: put it into the image or a volume")
    return {name: content.decode("utf-8", "surrogateescape") for name, content in sorted(found.items())}


def _below(place: Place, tree: Tree, path: str) -> Iterator[str]:
    """The files below a folder, as paths from there."""
    folders = [""]
    while folders:
        folder = folders.pop()
        if folder.count("/") > MAX_FOLDERS:
            place.fail(f"has folders more than {MAX_FOLDERS} deep")
        for name in tree.names(posixpath.join(path, folder).rstrip("/")):
            if name.endswith("/"):
                folders.append(folder + name)
            else:
                yield folder + name
