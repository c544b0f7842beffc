"""What a container has mounted: claims for what it keeps, ConfigMaps for files of the repository, and memory.  Pure."""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gitops_mvd.core.compose import Mount
from gitops_mvd.core.model import File, Service
from gitops_mvd.core.model import digest as digest_of
from gitops_mvd.core.redact import SECRETS_FOLDER
from gitops_mvd.exports.environment import VALUE, secret_object, where
from gitops_mvd.exports.names import digest, label, labels, namespace, unique, word
from gitops_mvd.exports.remarks import Body, lost, needs, remark, without_empty
from gitops_mvd.exports.source import Exported, Source

MOST_IN_CONFIG_MAP = 1 << 20  # bytes, all its values together
READ_WRITE_ONCE, READ_WRITE_MANY = "ReadWriteOnce", "ReadWriteMany"
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_PROPAGATION = {"shared": "Bidirectional", "rshared": "Bidirectional"}
_PROPAGATION |= {"slave": "HostToContainer", "rslave": "HostToContainer"}
_SIZE = re.compile(r"([0-9]+)([kmg]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Mounted:
    """What a container has mounted: `volumes` of its pod by name, and how the container sees each."""

    volumes: Mapping[str, Body] = field(default_factory=dict)
    mounts: tuple[Body, ...] = ()
    remarks: Body = field(default_factory=dict)


# ---- claims ----------------------------------------------------------------------------------------------------------


def kept(service: Service) -> Iterator[Mount]:
    """The mounts of what outlives its containers: named volumes, and folders of the app on its host."""
    for mount in service.run.get("volumes", ()):
        if mount["source"] and (mount["type"] == "volume" or mount["source"].startswith("./")):
            yield mount


def claim_names(source: Source) -> Mapping[str, str]:
    """The name of the claim for each volume and each folder that a service of the app has mounted."""
    sources = dict.fromkeys(mount["source"] for it in source.services for mount in kept(it.service))
    short = {one: one.removeprefix("./").removeprefix(f"{source.name}_") for one in sources}
    made = unique(short.values())
    names = {one: made[name] for one, name in short.items()}
    twice = {name for name in names.values() if [*names.values()].count(name) > 1}
    return {one: label(f"{name}-{digest(one)}") if name in twice else name for one, name in names.items()}


def claims(source: Source, size: str) -> Iterator[Body]:
    """A PersistentVolumeClaim for each volume and folder of the app, but for volumes that others make."""
    for real, name in claim_names(source).items():
        options = source.volumes.get(real, {})
        if options.get("external"):
            continue
        users = [it for it in source.services if any(mount["source"] == real for mount in kept(it.service))]
        body: Body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        body["metadata"] = {"name": name, "namespace": namespace(source.name), "labels": _labels(source, users)}
        for key in ("driver", "driver_opts", "labels"):
            if options.get(key) and options.get(key) != "local":
                body |= lost(f"volumes.{real}.{key}", "choose a storage class, or a volume, that does the same")
        shared = sum(it.service.replicas for it in users) > 1
        mode = READ_WRITE_MANY if shared else READ_WRITE_ONCE
        spec: Body = {}
        if shared:
            spec |= remark("Several pods use it: this needs a storage class that can ReadWriteMany")
        spec["accessModes"] = [mode]
        spec |= remark("The manifest names no size")
        spec["resources"] = {"requests": {"storage": size}}
        yield body | {"spec": spec}


def _labels(source: Source, users: Iterable[Exported]) -> dict[str, str]:
    names = [it.name for it in users]
    made = labels(source.name, names[0])
    return made if len(names) == 1 else {key: value for key, value in made.items() if key.endswith("part-of")}


# ---- files of the repository -----------------------------------------------------------------------------------------


def config_maps(source: Source, secrets: Mapping[str, set[str]]) -> Iterator[Body]:
    """The ConfigMaps with files that are not secret; none is ever changed, as its name follows from its content."""
    made: dict[str, Body] = {}
    for it in source.services:
        for file in it.service.files:
            if not is_secret(file, secrets) and file.files and _fits(file):
                name = config_name(it.service, file)
                texts, binary = _contents(file)
                made.setdefault(
                    name,
                    without_empty(
                        {
                            "apiVersion": "v1",
                            "kind": "ConfigMap",
                            "metadata": {
                                "name": name,
                                "namespace": namespace(source.name),
                                "labels": labels(source.name, it.name),
                            },
                            "immutable": True,
                            "data": texts,
                            "binaryData": binary,
                        }
                    ),
                )
    yield from made.values()


def config_name(service: Service, file: File) -> str:
    """The name of the ConfigMap: another one for another content, so that pods are replaced for it."""
    words = [word(service.name)[:20], word(posixpath.basename(file.target.rstrip("/")))[:30]]
    content = digest_of([service.name, file.target, dict(file.files)])[:8]
    return "-".join(filter(None, [*words, content]))


def is_secret(file: File, secrets: Mapping[str, set[str]]) -> bool:
    """Is it a secret, or is one in it?"""
    values = [value for some in secrets.values() for value in some]
    inside = any(value in text for text in file.files.values() for value in values)
    return bool(file.secrets) or file.target.startswith(SECRETS_FOLDER) or inside


def _fits(file: File) -> bool:
    return sum(len(text.encode("utf-8", "surrogateescape")) for text in file.files.values()) <= MOST_IN_CONFIG_MAP


def _keys(file: File) -> Mapping[str, str]:
    """For each path its key in a ConfigMap or Secret."""
    paths = sorted({*file.files, *file.secrets})
    alone = posixpath.basename(file.target)
    return {path: _key(path or alone) for path in paths}


def _key(path: str) -> str:
    return path if _KEY.fullmatch(path) and path not in (".", "..") and not path.startswith("..") else label(path)


def _contents(file: File) -> tuple[Body, Body]:
    keys = _keys(file)
    texts: Body = {}
    binary: Body = {}
    for path, text in sorted(file.files.items()):
        try:
            text.encode()
            texts[keys[path]] = text
        except UnicodeEncodeError:
            binary[keys[path]] = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
    return texts, binary


def _files(source: Source, service: Service, secrets: Mapping[str, set[str]]) -> Iterator[Mounted]:
    for number, file in enumerate(service.files):
        if not file.files and not file.secrets:
            continue
        if hidden := [path for path in (*file.files, *file.secrets) if path.startswith("..")]:
            yield Mounted(remarks=lost(f"{file.target}/{hidden[0]}", "a name cannot begin with two dots here"))
            continue
        keys = _keys(file)
        if is_secret(file, secrets):
            name, volume, wanted = f"secret-{number}", *_secret_volume(source, service, file, keys)
        elif _fits(file):
            items = [{"key": key, "path": path or key} for path, key in keys.items()]
            config: Body = {"name": config_name(service, file), "defaultMode": file.mode & 0o777}
            if not file.is_single and any(key != path for path, key in keys.items()):
                config["items"] = items
            name, volume, wanted = f"files-{number}", {"configMap": config}, Body()
        else:
            why = "a ConfigMap holds 1 MiB: put these files into the image"
            yield Mounted(remarks=lost(f"volumes {file.target}", why))
            continue
        if file.uid or file.gid:
            why = "a mounted file is root's here; `securityContext.fsGroup` gives all of a pod's to a group"
            wanted |= lost(f"{file.target}: owner {file.uid}:{file.gid}", why)
        name = f"{name}-{label(service.name, 40)}"
        mount: Body = {"name": name, "mountPath": file.target, "readOnly": True}
        if file.is_single:
            mount["subPath"] = keys[""]
        yield Mounted({name: volume}, (wanted | mount,))


def _secret_volume(source: Source, service: Service, file: File, keys: Mapping[str, str]) -> tuple[Body, Body]:
    """A volume of a Secret, or of several, and what must be in them."""
    sources: list[Body] = []
    wanted: Body = {}
    for path, secret in sorted(file.secrets.items()):
        item = {"key": VALUE, "path": path or keys[path]}
        sources.append({"secret": {"name": secret_object(secret), "items": [item]}})
        wanted |= needs(secret_object(secret), VALUE, where(secret))
    if file.files:
        name = _secret_name(source, service, file)
        items = [{"key": keys[path], "path": path or keys[path]} for path in sorted(file.files)]
        sources.append({"secret": {"name": name, "items": items}})
        for path in sorted(file.files):
            at = posixpath.join(file.target, path) if path else file.target
            wanted |= needs(name, keys[path], f"the file that is mounted at {at}")
    return {"projected": {"defaultMode": file.mode & 0o777, "sources": sources}}, wanted


def _secret_name(source: Source, service: Service, file: File) -> str:
    """The name of the Secret with a file of the repository, which several services may have mounted."""
    base = posixpath.basename(file.target.rstrip("/")) or "files"
    every = (it for one in source.services for it in one.service.files if posixpath.basename(it.target) == base)
    is_same = all(it.files == file.files for it in every if it.files)
    return label(base) if is_same else label(f"{label(service.name, 30)}-{label(base, 30)}")


# ---- what a container has mounted ------------------------------------------------------------------------------------


def mounted(source: Source, service: Service, secrets: Mapping[str, set[str]]) -> Mounted:
    """All that it has mounted; names of volumes are those in its pod."""
    names = claim_names(source)
    parts = [*_files(source, service, secrets)]
    for number, mount in enumerate(service.run.get("volumes", ())):
        parts.append(_mount(mount, names, f"mount-{number}-{label(service.name, 40)}"))
    for number, line in enumerate(service.run.get("tmpfs", ())):
        parts.append(_tmpfs(line, f"tmpfs-{number}-{label(service.name, 40)}"))
    if "shm_size" in service.run:
        parts.append(_memory("/dev/shm", service.run["shm_size"], f"shm-{label(service.name, 40)}"))
    merged: Body = {}
    taken: dict[str, Body] = {}
    for part in parts:
        merged |= part.remarks
        for seen in part.mounts:
            if ":" in seen["mountPath"]:
                merged |= lost(f"volumes {seen['mountPath']}", "a path of a mount has no colon here")
            else:
                taken.setdefault(posixpath.normpath(seen["mountPath"]), seen)
    used = {seen["name"] for seen in taken.values()}
    volumes = {name: volume for part in parts for name, volume in part.volumes.items() if name in used}
    return Mounted(volumes, tuple(taken.values()), merged)


def _mount(mount: Mount, names: Mapping[str, str], own: str) -> Mounted:
    target, source = mount["target"], mount["source"]
    body: Body = {"name": own, "mountPath": target}
    if mount["read_only"]:
        body["readOnly"] = True
    if mount["type"] == "tmpfs":
        options = mount.get("tmpfs", {})
        volume: Body = {"emptyDir": {"medium": "Memory"} | _limit(options.get("size", 0))}
        wrong = lost(f"tmpfs {target}: mode {options['mode']:04o}", "it is 0777 here") if "mode" in options else {}
        return Mounted({own: volume}, (wrong | body,))
    if source in names:
        body["name"] = own = label(f"claim-{names[source]}")
        if "subpath" in mount.get("volume", {}):
            body["subPath"] = mount.get("volume", {})["subpath"]
        return Mounted({own: {"persistentVolumeClaim": {"claimName": names[source]}}}, (body,))
    if mount["type"] == "volume":
        why = "it ends with its pod here; give it a name in the manifest to have it kept"
        return Mounted({own: {"emptyDir": {}}}, (lost(f"the volume without a name at {target}", why) | body,))
    options_of_bind = mount.get("bind", {})
    if propagation := _PROPAGATION.get(options_of_bind.get("propagation", "")):
        body["mountPropagation"] = propagation
    if (recursive := options_of_bind.get("recursive", "enabled")) == "readonly":
        body["recursiveReadOnly"] = "Enabled"
    elif recursive != "enabled":
        body = lost(f"volumes {target}: recursive {recursive}", "mounts below it are seen here") | body
    why = "this is that path of whichever node the pod runs on: bring what is there, or use a volume"
    wrong = lost(f"{source} of the server", why)
    return Mounted({own: {"hostPath": {"path": source}}}, (wrong | body,))


def _tmpfs(line: str, own: str) -> Mounted:
    target, _, options = line.partition(":")
    size, strange = 0, []
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and (found := _SIZE.fullmatch(value)):
            size = int(found[1]) * _UNITS[found[2].lower()]
        elif option != "rw" and (name, value.lstrip("0")) not in (("mode", "777"), ("mode", "1777")):
            strange.append(option)
    part = _memory(target, size, own)
    if not strange:
        return part
    wrong = lost(f"tmpfs {target}: {','.join(strange)}", "memory of a pod has no such options")
    return Mounted(part.volumes, tuple(wrong | mount for mount in part.mounts))


def _memory(target: str, size: int, own: str) -> Mounted:
    return Mounted({own: {"emptyDir": {"medium": "Memory"} | _limit(size)}}, ({"name": own, "mountPath": target},))


def _limit(size: int) -> Body:
    return {"sizeLimit": quantity(size)} if size > 0 else {}


def quantity(size: int) -> str:
    """A size in bytes as Kubernetes writes it: `512Mi`."""
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
