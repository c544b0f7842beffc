"""`volumes`, `tmpfs`, `configs` and `secrets`, of a service and of the top level.  Pure."""

from __future__ import annotations

from typing import Literal

from gitops_mvd.config.readers import (
    FILLED,
    absolute,
    boolean,
    each,
    either,
    filled,
    integer,
    mapping_of,
    one_of,
    size,
    string_map,
    text,
    word,
)
from gitops_mvd.config.tables import (
    Ignored,
    Invalid,
    Key,
    Place,
    Table,
    Unsupported,
    accepts,
    record,
)
from gitops_mvd.core.compose import BindOptions, Mount, TmpfsOptions, VolumeMountOptions
from gitops_mvd.manifest.network import external
from gitops_mvd.manifest.values import GrantKeys, MountKeys, VolumeKeys

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_CONSISTENCIES = ("consistent", "cached", "delegated", "default")


@accepts({"type": ["integer", "string"], "minimum": 0, "maximum": 0o7777, "pattern": "^[0-7]{1,5}$"})
def mode(place: Place) -> int:
    """Permission bits: the number that YAML reads (`0440` is octal), or a string of octal digits."""
    value = place.scalar("permissions such as 0440")
    if isinstance(value, str) and value.isascii() and value.isdigit() and value.strip("01234567") == "":
        value = int(value, 8)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o7777:
        place.fail(f"must be permissions such as 0440, not {value!r}")
    return value


@accepts({"enum": ["volume", "bind", "tmpfs"]})
def _type(place: Place) -> str:
    kind = text(place)
    if kind in ("npipe", "cluster", "image"):
        place.fail(f"{kind} is not supported: use volume, bind or tmpfs")
    return one_of("volume", "bind", "tmpfs")(place)


BIND: Table = {
    "propagation": Key(
        "`rprivate` (the default), `private`, `shared`, `rshared`, `slave` or `rslave`.", one_of(*PROPAGATIONS)
    ),
    "selinux": Key("`z` (shared) or `Z` (private) relabels the source.", one_of("z", "Z")),
    "recursive": Key(
        "`enabled`, `disabled`, `writable` or `readonly`: what happens to mounts below the source.",
        one_of("enabled", "disabled", "writable", "readonly"),
    ),
    "create_host_path": Key("`false`: the path must exist. Otherwise a missing folder of the host is made.", boolean),
}
VOLUME_OPTIONS: Table = {
    "nocopy": Key("Do not fill a new volume from the image.", boolean),
    "subpath": Key("A folder inside the volume.", filled),
    "labels": Unsupported("is not supported on a mount: put labels on the volume at the top level"),
}
TMPFS_OPTIONS: Table = {
    "size": Key("Its size, such as `64m`.", size),
    "mode": Key("Its permissions, such as `0755`.", mode),
}
MOUNT: Table = {
    "type": Key("`volume`, `bind` or `tmpfs`.", _type),
    "source": Key(
        "A volume of the top level, an absolute path of the host, or `./path`: in the repository, else a folder of the "
        "app on the host.",
        text,
    ),
    "target": Key("The path in the container.", absolute),
    "read_only": Key("`true`: the container cannot write, as always for a path in the repository.", boolean),
    "consistency": Ignored("it has no effect on Linux.", one_of(*_CONSISTENCIES)),
    "bind": Key(
        "For a bind: `propagation`, `selinux`, `recursive`, `create_host_path`; for a volume: `selinux`.",
        record(BindOptions, BIND),
    ),
    "volume": Key("For a volume: `nocopy`, `subpath`.", record(VolumeMountOptions, VOLUME_OPTIONS)),
    "tmpfs": Key("For a tmpfs: `size`, `mode`.", record(TmpfsOptions, TMPFS_OPTIONS)),
    "image": Unsupported(
        "is not supported: mounts of images need an engine that few have; copy the files into the image"
    ),
}


def _check_host_path(place: Place, source: str) -> None:
    if not source:
        place.fail("is a bind and has no `source`")
    if source.startswith("~"):
        place.fail(f"has the home of whoever runs it in {source!r}: use an absolute path, or a volume")
    if source.startswith("/") and ".." in source.split("/"):
        place.fail(f"has `..` in the path of the host {source!r}: write where it leads")


def split_volume(text: str) -> tuple[str, str, str]:
    """`[source:]target[:modes]` in its three parts, "" for what is not there."""
    source, *rest = text.split(":", 2)
    if not rest:
        return "", source, ""
    return source, rest[0], rest[1] if len(rest) > 1 else ""


_mount_keys = record(MountKeys, MOUNT, ("type", "target"))


@accepts(either(FILLED, _mount_keys.schema))
def mount(place: Place) -> Mount:
    """A mount in long form, its source as written."""
    if not isinstance(place.value(), dict):
        return _short(place)
    values = _mount_keys(place)
    if "type" not in values or "target" not in values:
        raise Invalid
    kind, bind = values["type"], values.get("bind", {})
    labelled = kind == "volume" and bind.keys() == {"selinux"}
    for other in {"bind", "volume", "tmpfs"} & values.keys() - ({kind, "bind"} if labelled else {kind}):
        place.report(f"is of the type {kind} and cannot have options for `{other}`")
    if labelled and (not values.get("source") or "subpath" in values.get("volume", {})):
        place.fail("has `selinux`, which relabels a whole named volume: give it a `source`, and no `subpath`")
    if kind == "bind":
        _check_host_path(place, values.get("source", ""))
    if kind == "tmpfs" and values.get("source"):
        place.fail("is a tmpfs and cannot have a `source`")
    made: Mount = {
        "type": kind,
        "source": values.get("source", ""),
        "target": values["target"],
        "read_only": values.get("read_only", False),
    }
    if bind.get("create_host_path"):  # what a missing folder is anyway
        del bind["create_host_path"]
    if (kind == "bind" or labelled) and bind:
        made["bind"] = bind
    if kind == "volume" and values.get("volume"):
        made["volume"] = values["volume"]
    if kind == "tmpfs" and values.get("tmpfs"):
        made["tmpfs"] = values["tmpfs"]
    return made


def _short(place: Place) -> Mount:
    source, target, modes = split_volume(filled(place))
    if not target.startswith("/") or ".." in target.split("/"):
        place.fail(f"mounts at {target!r}: use an absolute path without `..`")
    kind: Literal["bind", "volume"] = "bind" if source.startswith((".", "/", "~")) else "volume"
    if kind == "bind":
        _check_host_path(place, source)
    made: Mount = {"type": kind, "source": source, "target": target, "read_only": False}
    for option in modes.split(",") if modes else ():
        if option == "ro":
            made["read_only"] = True
        elif option in ("z", "Z") and source:
            made.setdefault("bind", {})["selinux"] = option
        elif option in PROPAGATIONS and kind == "bind":
            made.setdefault("bind", {})["propagation"] = option
        elif option == "nocopy" and kind == "volume":
            made.setdefault("volume", {})["nocopy"] = True
        elif option not in ("rw", *_CONSISTENCIES):
            known = {"bind": "ro, rw, z, Z or a propagation", "volume": "ro, rw, z, Z or nocopy"}[kind]
            place.fail(f"has the mode {option!r}: it can be {known}")
    return made


_FOLDER = {"type": "string", "pattern": "^/"}


@accepts(either(_FOLDER, {"type": "array", "items": _FOLDER}))
def tmpfs(place: Place) -> list[tuple[Place, str]]:
    """`path[:options]`, one or several."""

    def read(item: Place) -> str:
        value = filled(item)
        return value if value.startswith("/") else item.fail(f"must be an absolute path, not {value!r}")

    return each(place, read) if isinstance(place.value(), list) else [(place, read(place))]


VOLUME: Table = {
    "name": Key("The volume's name on the host, instead of `<app>_<volume>`.", filled),
    "external": Key("`true`: the volume exists already. It is used, and never created.", external),
    "driver": Key("`local` if left out.", filled),
    "driver_opts": Key("Options of the driver.", mapping_of(word)),
    "labels": Key("Labels of the volume.", string_map),
}
read_volume = record(VolumeKeys, VOLUME)

_NO_STORE = (
    "there is no store of configs on a single host: name a `file` of the repository, or a variable with `environment`"
)


def content(kind: str) -> Table:
    """The keys of one of the top-level `configs` or `secrets`."""
    table: Table = {
        "file": Key("A file of the repository, relative to this one.", filled),
        "environment": Key("The name of a variable of the host (fleet.yaml, .env) that holds it.", filled),
        "labels": Ignored("they are for Swarm: a mounted file has none.", string_map),
        "driver": Unsupported("is not supported: it needs Swarm"),
        "driver_opts": Unsupported("is not supported: it needs Swarm"),
        "template_driver": Unsupported("is not supported: use variables in `content:`"),
    }
    if kind == "configs":
        return {
            **table,
            "content": Key("The text itself; variables are filled in.", text),
            "external": Unsupported(_NO_STORE),
            "name": Ignored("it is for Swarm.", text),
        }
    return {
        **table,
        "content": Unsupported("is not supported: text in a manifest is not secret; use `external: true`"),
        "external": Key("`true`: it is not in the repository, but a secret of the host.", external),
        "name": Key(
            "With `external`, its name on the host, instead of the one here: a file of the folder for secrets, or "
            "`PROVIDER:PATH`. Otherwise ignored.",
            text,
        ),
    }


CONFIG = content("configs")
SECRET = content("secrets")


@accepts(FILLED)
def _target(place: Place) -> str:
    target = filled(place)
    return target if ".." not in target.split("/") else place.fail("must not have `..`")


@accepts({"type": "string", "pattern": "^[0-9]{1,10}$"})
def _owner(place: Place) -> int:
    text(place)
    return integer(0, 2**31)(place)


GRANT: Table = {
    "source": Key("The name of the config or secret at the top level.", filled),
    "target": Key("The path in the container; a secret without a `/` in front: below `/run/secrets`.", _target),
    "uid": Key("Its owner, a number in quotes; 0 if left out.", _owner),
    "gid": Key("Its group, a number in quotes; 0 if left out.", _owner),
    "mode": Key("Its permissions; `0444` if left out.", mode),
}


_grant_keys = record(GrantKeys, GRANT, ("source",))


@accepts(either(FILLED, _grant_keys.schema))
def grant(place: Place) -> GrantKeys:
    """A config or secret that a service gets, in long form."""
    if isinstance(place.value(), dict):
        return _grant_keys(place)
    return {"source": filled(place)}
