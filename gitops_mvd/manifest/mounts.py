"""What a service has mounted: volumes, paths of the host, and files of the repository.  Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import Mount, Run
from gitops_mvd.core.model import File
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.composition import inside, read_file
from gitops_mvd.manifest.project import Project
from gitops_mvd.manifest.values import ServiceKeys

MAX_MOUNTED = 1 << 20  # bytes of one mounted folder or file of the repository
MAX_FOLDERS = 16


def read_mounts(entries: Mapping[str, Place], values: ServiceKeys, project: Project, run: Run) -> list[File]:
    """The files of the repository that are mounted; real mounts go into `run`."""
    files: list[File] = []
    mounts: list[Mount] = []
    taken: dict[str, Place] = {}
    for at, mount in values.get("volumes", ()):
        _once(at, mount["target"], taken)
        if mount["type"] == "volume" and mount["source"]:
            if mount["source"] not in project.volumes:
                at.report(
                    f"the volume {mount['source']} is not declared: add it to `volumes:` at the top level, "
                    f"or write ./{mount['source']} for files of the repository"
                )
                continue
            mounts.append({**mount, "source": project.volumes[mount["source"]][0]})
        elif mount["type"] == "bind" and not mount["source"].startswith("/"):
            if (file := at.attempt(_repository_file, mount, project.tree)) is not None:
                files.append(file)
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
            files.append(File(target, {"": known[source]}, mode, uid, gid))
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


def _repository_file(place: Place, mount: Mount, tree: Tree) -> File:
    path = inside(place, mount["source"])
    if not mount["read_only"]:
        place.fail(
            f"{mount['source']} is in the repository, which nobody writes to: add `:ro`, or use a volume "
            "or an absolute path for data"
        )
    files = _gather(place, tree, path)
    # Git's executable bit is not in a Tree; a script that is mounted is there to be run.
    script = any(content.startswith("#!") for content in files.values())
    return File(mount["target"], files, mode=0o555 if script else 0o444)


def _gather(place: Place, tree: Tree, path: str) -> dict[str, str]:
    """A file, or a folder with all that is below it, as text."""
    names = [("", tree.names(path))]
    if not names[0][1]:
        found = {"": read_file(place, tree, path)}
    else:
        found = {}
        while names:
            folder, inner = names.pop()
            for name in inner:
                if name.endswith("/"):
                    if (folder + name).count("/") > MAX_FOLDERS:
                        place.fail(f"has folders more than {MAX_FOLDERS} deep")
                    names.append((folder + name, tree.names(posixpath.join(path, folder + name).rstrip("/"))))
                else:
                    found[folder + name] = read_file(place, tree, posixpath.join(path, folder + name))
    if sum(map(len, found.values())) > MAX_MOUNTED:
        place.fail(f"is more than {MAX_MOUNTED >> 20} MiB: put it into the image or a volume")
    return {name: content.decode("utf-8", "surrogateescape") for name, content in sorted(found.items())}
