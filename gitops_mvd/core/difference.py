"""What a person changed between two versions of an app, in short phrases: `image nginx:1.28 → 1.29`.  Pure.

Every key of the normal form is covered: one without a phrase of its own is told by its name.  Values are shown of keys
that never have a secret (images, ports, paths, numbers, limits), of all others only the names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from gitops_mvd.core.model import App, Resource, Role, Roles, Service
from gitops_mvd.core.redact import SECRETS_FOLDER, redact, secrets_of_app

ADDED, REMOVED, CHANGED, WARNING = "+", "-", "~", "!"
_WORDS = {ADDED: "added", REMOVED: "removed", CHANGED: "changed"}
DIGEST_SHOWN = 6  # characters

Section = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: `text` says what, and `sign` whether it was added, removed or changed, or is a warning.

    `service` is "" for what is of the app as a whole.  If both values may be shown, `was` and `to` name what was there
    before and what is there now.
    """

    service: str
    sign: str
    text: str
    was: str = ""
    to: str = ""


def differences(before: App, after: App, volumes: Set[str] = frozenset()) -> tuple[Difference, ...]:
    """What differs between two versions of an app; `volumes` are the real names of those that are on the host.

    An app without anything stands for one that was never there, or is to be removed.
    """
    was, now = before.to_json(), after.to_json()
    old, new = ({service["name"]: service for service in app["services"]} for app in (was, now))
    kept = volumes | before.volumes.keys() | {name for name, it in after.volumes.items() if it.get("external")}
    found = [
        *_of_services(after.name, old, new, kept),
        *_of_app(after.name, was, now),
    ]
    secrets = secrets_of_app(before, sure=True) | secrets_of_app(after, sure=True)
    return tuple(Difference(it.service, it.sign, *(redact(text, secrets) for text in _texts(it))) for it in found)


def what_changed(app: App, good: App | None, found: Iterable[Resource], roles: Roles) -> tuple[Difference, ...]:
    """What differs from the version that last worked here and, if nobody remembers it, from what was found."""
    found = tuple(found)
    if good is None and found:
        return differences_from_found(found, app, roles)
    good = good or App(app.name)
    return () if good == app else differences(good, app, {it.name for it in found if roles[it.kind] is Role.DATA})


def differences_from_found(found: Iterable[Resource], after: App, roles: Roles) -> tuple[Difference, ...]:
    """What differs from what was found on the host, if nobody remembers what that was made of."""
    instances = {it.name: it.service for it in found if roles[it.kind] is Role.INSTANCE}
    wanted = {service.name: set(service.instances(after.name)) for service in after.services}
    there = set(instances.values())

    def of(service: Service) -> Iterator[Difference]:
        name = service.name
        if name not in there:
            yield Difference("", ADDED, _new(after.name, service.to_json()))
        elif {instance for instance, of in instances.items() if of == name} != wanted[name]:
            yield Difference(name, CHANGED, "changed; what it was before is not known here")

    secrets = secrets_of_app(after, sure=True)
    changed = (Difference(it.service, it.sign, redact(it.text, secrets)) for one in after.services for it in of(one))
    removed = (Difference("", REMOVED, f"service {name} removed") for name in sorted(there - wanted.keys()))
    return *changed, *removed


def _texts(it: Difference) -> tuple[str, str, str]:
    return it.text, it.was, it.to


# ---- services --------------------------------------------------------------------------------------------------------


def _of_services(
    app: str, was: Mapping[str, Section], now: Mapping[str, Section], kept: Set[str]
) -> Iterator[Difference]:
    """`kept` are the volumes that may have data."""
    for name, service in now.items():
        if name not in was:
            yield Difference("", ADDED, _new(app, service))
            continue
        for change in _of_service(app, was[name], service):
            yield change.of(name)
        yield from _emptied(name, was[name], service, kept)
    yield from (Difference("", REMOVED, f"service {name} removed") for name in was if name not in now)


def _new(app: str, service: Section) -> str:
    """`service cache added (redis:7, port 6379, volume data at /data)`."""
    run, kong = service["run"], service.get("kong")
    told = [
        _written(service),
        *([f"{service['replicas']} replicas"] if service["replicas"] > 1 else []),
        *([f"at {service['schedule']}"] if service["schedule"] else []),
        *(f"port {_port(port)}" for port in run.get("ports", ())),
        *(f"route {_label(route)}" for route in (kong["routes"] if kong else ())),
        *(_mount(app, mount) for mount in run.get("volumes", ())),
    ]
    return f"service {service['name']} added ({', '.join(told)})"


@dataclass(frozen=True, slots=True)
class _Change:
    """A difference before it is known of which service."""

    sign: str
    text: str
    was: str = ""
    to: str = ""

    def of(self, service: str) -> Difference:
        return Difference(service, self.sign, self.text, self.was, self.to)


def _change(sign: str, what: str, names: str = "") -> _Change:
    return _Change(sign, f"{what} {_WORDS[sign]}{f' ({names})' if names else ''}")


def _replaced(what: str, was: str, to: str, shown: str = "") -> _Change:
    """What was replaced; `shown` is the new value in short, where the old one has its beginning."""
    return _Change(CHANGED, f"{what} {was} → {shown or to}", f"{what} {was}", f"{what} {to}")


def _of_service(app: str, was: Section, now: Section) -> Iterator[_Change]:
    yield from _image(was, now)
    for key in _keys(was, now):
        if was.get(key) != now.get(key) and key not in ("name", "image", "tag"):
            found = list(_PHRASES.get(key, partial(_plain, key))(app, was.get(key), now.get(key)))
            yield from found or [_change(CHANGED, key)]


def _image(was: Section, now: Section) -> Iterator[_Change]:
    before, after = _written(was), _written(now)
    is_same = was["image"] == now["image"]
    if before != after:
        name, _, tag = after.rpartition(":")
        shown = tag if name and before.startswith(f"{name}:") and "/" not in tag else after
        change = _replaced("image", before, after, shown)
        is_pinned = is_same and was["tag"] and now["tag"]
        yield _Change(change.sign, f"{change.text} (the same content)", change.was, change.to) if is_pinned else change
    elif not is_same:
        old, new = _digest(was["image"]), _digest(now["image"])
        if old and new:
            yield _Change(CHANGED, f"image {after}, rebuilt: sha256 {old}… → {new}…")


def _written(service: Section) -> str:
    """The image as somebody wrote it; a digest in it is cut."""
    written = str(service["tag"] or service["image"])
    name, at, digest = written.partition("@sha256:")
    return f"{name}@{digest[:DIGEST_SHOWN]}…" if at else written


def _digest(image: str) -> str:
    return image.rpartition("sha256:")[2][:DIGEST_SHOWN] if "sha256:" in image else ""


def _emptied(service: str, was: Section, now: Section, kept: Set[str]) -> Iterator[Difference]:
    """The paths at which a service had data, and begins with none."""
    before = {mount["target"]: mount for mount in was["run"].get("volumes", ()) if mount["type"] != "tmpfs"}
    after = {mount["target"]: mount for mount in now["run"].get("volumes", ())}
    for target, mount in before.items():
        successor = after.get(target)
        if successor is None or (successor["type"], successor["source"]) == (mount["type"], mount["source"]):
            continue
        is_empty = successor["type"] == "tmpfs" or (successor["type"] == "volume" and successor["source"] not in kept)
        if is_empty:
            yield Difference(service, WARNING, f"{target} begins empty")


# ---- phrases of single keys ------------------------------------------------------------------------------------------

Phrase = Callable[[str, Any, Any], Iterator[_Change]]
"""By app, and what a key was and is."""


def _keys(*sides: Section) -> list[str]:
    """The keys of several mappings, each once, in the order in which they stand."""
    return list(dict.fromkeys(key for side in sides for key in side))


def _of_value(what: str, was: object, now: object, shown: Callable[[Any], str] = str) -> Iterator[_Change]:
    """A value that may be shown."""
    if was in (None, ""):
        yield _change(ADDED, f"{what} {shown(now)}")
    elif now in (None, ""):
        yield _change(REMOVED, f"{what} {shown(was)}")
    else:
        yield _replaced(what, shown(was), shown(now))


def _plain(key: str, app: str, was: object, now: object) -> Iterator[_Change]:
    """A key without a phrase: numbers are shown, and of all else what was added or removed, by its name."""
    sides = [side for side in (was, now) if side is not None]
    if all(isinstance(side, int | float) for side in sides):
        yield from _of_value(key, was, now, _number)
    elif all(isinstance(side, Mapping) for side in sides):
        yield from _names(key, was, now)
    else:
        yield _change(_sign(was, now), key)


def _sign(was: object, now: object) -> str:
    return ADDED if was in (None, "", [], {}) else REMOVED if now in (None, "", [], {}) else CHANGED


def _number(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _names(key: str, was: Any, now: Any) -> Iterator[_Change]:
    """The fields that changed, in one phrase."""
    fields = [name for name in _keys(was or {}, now or {}) if (was or {}).get(name) != (now or {}).get(name)]
    yield _change(_sign(was, now), key) if was is None or now is None else _change(CHANGED, key, ", ".join(fields))


def _each(what: str) -> Phrase:
    """A mapping of which every name is told, and no value."""

    def told(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
        before, after = was or {}, now or {}
        for name in _keys(before, after):
            if before.get(name) != after.get(name) or (name in before) != (name in after):
                sign = ADDED if name not in before else REMOVED if name not in after else CHANGED
                yield _change(sign, f"{what} {name}")

    return told


def _members(what: str) -> Phrase:
    """A list of texts that may be shown."""

    def told(app: str, was: Sequence[str] | None, now: Sequence[str] | None) -> Iterator[_Change]:
        before, after = was or (), now or ()
        yield from (_change(REMOVED, f"{what} {one}") for one in before if one not in after)
        yield from (_change(ADDED, f"{what} {one}") for one in after if one not in before)

    return told


def _shown(what: str, how: Callable[[Any], str] = str) -> Phrase:
    """A value that may be shown."""
    return lambda app, was, now: _of_value(what, was, now, how)


def _size(value: object) -> str:
    """`512M`, `1G`: bytes as a manifest has them."""
    if not isinstance(value, int):
        return str(value)
    for unit, bytes in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if value >= bytes and value % bytes == 0:
            return f"{value // bytes}{unit}"
    return f"{value}"


def _seconds(value: float) -> str:
    return f"{value:g} s"


def _run(app: str, was: Section, now: Section) -> Iterator[_Change]:
    for key in _keys(was, now):
        if was.get(key) != now.get(key):
            found = list(_RUN.get(key, partial(_plain, key))(app, was.get(key), now.get(key)))
            yield from found or [_change(_sign(was.get(key), now.get(key)), key)]


def _secrets(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
    before, after = was or {}, now or {}
    for name in _keys(before, after):
        if name in before and name in after and before[name] != after[name]:
            yield _Change(CHANGED, f"secret {name} changed on this host")
        elif name not in before or name not in after:
            yield _change(ADDED if name in after else REMOVED, f"secret {name}")


def _swarm(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
    before, after = was or {}, now or {}
    for key in _keys(before, after):
        if before.get(key) != after.get(key):
            yield from _SWARM.get(key, partial(_plain, key))(app, before.get(key), after.get(key))


def _files(app: str, was: Sequence[Section], now: Sequence[Section]) -> Iterator[_Change]:
    before, after = ({file["target"]: file for file in side} for side in (was, now))
    targets = [it for it in _keys(before, after) if before.get(it) != after.get(it)]
    bases = [_base(target) for target in targets]
    for target, base in zip(targets, bases, strict=True):
        if target.startswith(SECRETS_FOLDER):
            what = f"secret {target.removeprefix(SECRETS_FOLDER)}"
        else:
            what = f"file {base if bases.count(base) == 1 else target}"
        if target not in before or target not in after:
            yield _change(ADDED if target in after else REMOVED, what)
        else:
            yield from _file(what, before[target], after[target])


def _file(what: str, was: Section, now: Section) -> Iterator[_Change]:
    """A file, or the files of a folder."""
    names = [name for name in _keys(was["files"], now["files"]) if was["files"].get(name) != now["files"].get(name)]
    fields = [key for key in _keys(was, now) if was.get(key) != now.get(key) and key != "files"]
    yield _change(CHANGED, what, ", ".join([*filter(None, names), *fields]))


def _base(target: str) -> str:
    return target.rstrip("/").rpartition("/")[2] or target


def _check(app: str, was: Section, now: Section) -> Iterator[_Change]:
    if was["probe"] != now["probe"]:
        yield from _of_value("health", was["probe"], now["probe"])
        return
    names = {"within": "within", "hold": "monitor", "start_period": "start_period", "interval": "interval"}
    for key, name in names.items():
        if was[key] != now[key]:
            yield from _of_value(f"health {name}", was[key], now[key], _seconds)
    others = [key for key in _keys(was["spec"], now["spec"]) if was["spec"].get(key) != now["spec"].get(key)]
    if was["successes"] != now["successes"]:
        others.append("successes")
    if others:
        yield _change(CHANGED, "health", ", ".join(others))


def _canary(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
    if was is None or now is None:
        yield _change(ADDED if now else REMOVED, "canary")
    else:
        yield _change(CHANGED, "canary", ", ".join(key for key in _keys(was, now) if was[key] != now[key]))


def _update(app: str, was: Section, now: Section) -> Iterator[_Change]:
    for key in _keys(was, now):
        if was[key] != now[key]:
            yield from _of_value(f"update {key}", was[key], now[key], _seconds if key == "delay" else str)


def _ports(app: str, was: Sequence[Section] | None, now: Sequence[Section] | None) -> Iterator[_Change]:
    gone = [port for port in was or () if port not in (now or ())]
    come = [port for port in now or () if port not in (was or ())]
    for port in list(gone):
        same = [it for it in come if (it["target"], it["protocol"]) == (port["target"], port["protocol"])]
        same = same or [it for it in come if (it["published"], it["protocol"]) == (port["published"], port["protocol"])]
        if same:
            gone.remove(port)
            come.remove(same[0])
            is_same_target = same[0]["target"] == port["target"]
            yield _replaced("port", *(_port(it, with_target=not is_same_target) for it in (port, same[0])))
    yield from (_change(REMOVED, f"port {_port(port)}") for port in gone)
    yield from (_change(ADDED, f"port {_port(port)}") for port in come)


def _port(port: Section, *, with_target: bool = True) -> str:
    """`8080:80`, `127.0.0.1:53/udp`."""
    published = port["published"] or "any"
    target = f":{port['target']}" if with_target and published != str(port["target"]) else ""
    address = f"{port['host_ip']}:" if port["host_ip"] else ""
    protocol = "" if port["protocol"] == "tcp" else f"/{port['protocol']}"
    return f"{address}{published}{target}{protocol}"


def _volumes(app: str, was: Sequence[Section] | None, now: Sequence[Section] | None) -> Iterator[_Change]:
    before, after = ({mount["target"]: mount for mount in side or ()} for side in (was, now))
    for target in _keys(before, after):
        old, new = before.get(target), after.get(target)
        if old == new:
            continue
        if old is None or new is None:
            yield _change(ADDED if old is None else REMOVED, _mount(app, new or old or {}))
        elif _source(app, old) != _source(app, new):
            yield _replaced(f"at {target}", _source(app, old), _source(app, new))
        else:
            fields = [key for key in _keys(old, new) if old.get(key) != new.get(key)]
            yield _change(CHANGED, _mount(app, new), ", ".join(fields))
    if not before.keys() ^ after.keys() and before == after:  # the same target twice, or another order
        yield _change(CHANGED, "volumes")


def _mount(app: str, mount: Section) -> str:
    return f"{_source(app, mount)} at {mount['target']}"


def _source(app: str, mount: Section) -> str:
    """`volume data`, `folder /srv/data`, `tmpfs`."""
    if mount["type"] == "volume":
        return f"volume {_volume(app, mount['source'])}" if mount["source"] else "an anonymous volume"
    return f"folder {mount['source']}" if mount["type"] == "bind" else "tmpfs"


def _volume(app: str, real: str) -> str:
    return real.removeprefix(f"{app}_")


def _network(app: str, real: str) -> str:
    named = re.fullmatch(rf"mvd-{re.escape(app)}-(.+)-[0-9a-f]{{8}}", real)
    return named[1] if named else real


def _networks(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
    """The networks that a service joins; one that was made anew, as an option of it changed, is the same one."""
    before, after = ({_network(app, real): it for real, it in (side or {}).items()} for side in (was, now))
    if "default" in (*before, *after) and not (was and now):  # a lone service is on it without being told so
        yield _Change(CHANGED, f"network default {'shared with other services' if now else 'for itself'} now")
        before.pop("default", None)
        after.pop("default", None)
    for name in _keys(before, after):
        if name not in before or name not in after:
            yield _change(ADDED if name in after else REMOVED, f"network {name}")
        elif before[name] != after[name]:
            yield from _names(f"network {name}", before[name], after[name])
    if was and now and before == after:
        yield from (_change(CHANGED, f"network {_network(app, real)}") for real in now or {} if real not in (was or {}))


# ---- Kong ------------------------------------------------------------------------------------------------------------


def _kong(app: str, was: Section | None, now: Section | None) -> Iterator[_Change]:
    before, after = was or {}, now or {}
    if before and after:
        for key in ("port", "protocol"):
            if before.get(key) != after.get(key):
                yield from _of_value(f"Kong {key}", before.get(key), after.get(key))
    old, new = ({key: side.get(key, ()) for key in ("routes", "plugins")} for side in (before, after))
    yield from _entities(old, new)
    for key in _keys(before, after):
        if key not in ("port", "protocol", "routes", "plugins") and before.get(key, {}) != after.get(key, {}):
            yield from _names(f"Kong {key}", before.get(key, {}), after.get(key, {}))
    if not before or not after:  # with no route it is said here alone
        yield _change(ADDED if after else REMOVED, "Kong service")


def _entities(was: Section, now: Section, where: str = "") -> Iterator[_Change]:
    """Lists of entities by their type: `plugin key-auth added`, `route /shop: plugin cors removed`."""
    for type in _keys(was, now):
        gone, come = _apart(was.get(type) or (), now.get(type) or ())
        noun = f"{where}{_singular(type)}"
        for old in list(gone):
            new = next((it for it in come if _identity(it) == _identity(old)), None)
            if new is not None:
                gone.remove(old)
                come.remove(new)
                yield from _entity(noun, old, new)
        yield from (_change(REMOVED, f"{noun} {_label(it)}".rstrip()) for it in gone)
        yield from (_change(ADDED, f"{noun} {_label(it)}".rstrip()) for it in come)


def _entity(noun: str, was: Section, now: Section) -> Iterator[_Change]:
    """What changed in one entity; those inside of it are told by themselves."""
    if _label(was) != _label(now):
        yield _replaced(noun, _label(was), _label(now))
    lists = [key for key in _keys(was, now) if _is_entities(was.get(key)) or _is_entities(now.get(key))]
    within = f"{noun} {_label(now)}".rstrip()
    for key in lists:
        yield from _entities({key: was.get(key) or ()}, {key: now.get(key) or ()}, f"{within}: ")
    fields = list(_fields({k: was[k] for k in was if k not in lists}, {k: now[k] for k in now if k not in lists}))
    fields = [field for field in fields if _label(was) == _label(now) or field not in _LABELS]
    if fields:
        yield _change(CHANGED, within, ", ".join(fields))


def _fields(was: Section, now: Section) -> Iterator[str]:
    """The names of fields that differ, those of a plugin's settings with their own: `config.minute`."""
    for key in _keys(was, now):
        old, new = was.get(key), now.get(key)
        if old != new:
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                yield from (f"{key}.{inner}" for inner in _keys(old, new) if old.get(inner) != new.get(inner))
            else:
                yield key


def _is_entities(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(it, Mapping) for it in value)


def _apart(was: Iterable[Any], now: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """What is only in one of two lists."""
    gone, come = list(was), []
    for it in now:
        if it in gone:
            gone.remove(it)
        else:
            come.append(it)
    return gone, come


_NAMES = ("name", "username", "instance_name", "id", "target", "group")
_LABELS = ("paths", "hosts", "snis", "methods", "expression")


def _label(entity: object) -> str:
    """By what people know an entity: its name, or what a route matches.  Never a credential."""
    if not isinstance(entity, Mapping):
        return ""
    named = next((str(entity[key]) for key in _NAMES if entity.get(key)), "")
    matched = next((entity[key] for key in _LABELS if entity.get(key)), "")
    return named or (matched if isinstance(matched, str) else ", ".join(map(str, matched)))


def _identity(entity: object) -> str:
    return _label(entity).partition(",")[0]


def _singular(type: str) -> str:
    return type.replace("_", " ").removesuffix("s") if not type.endswith("aliases") else type


# ---- the app as a whole ----------------------------------------------------------------------------------------------


def _of_app(app: str, was: Section, now: Section) -> Iterator[Difference]:
    for key in _keys(was, now):
        if key in ("name", "services") or was.get(key) == now.get(key):
            continue
        phrase = _APP.get(key, partial(_plain, key))
        found = list(phrase(app, was.get(key), now.get(key)))
        used = _used(app, was["services"]) | _used(app, now["services"])
        yield from (
            change.of("") for change in found if change.sign == CHANGED or change.text.rpartition(" ")[0] not in used
        )


def _used(app: str, services: Iterable[Section]) -> Set[str]:
    """The networks and volumes that show with the services that use them."""
    runs = [service["run"] for service in services]
    networks = {f"network {_network(app, real)}" for run in runs for real in run.get("networks", ())}
    return networks | {f"volume {_volume(app, it['source'])}" for run in runs for it in run.get("volumes", ())}


def _app_networks(app: str, was: Section, now: Section) -> Iterator[_Change]:
    before, after = ({_network(app, real): it for real, it in side.items()} for side in (was, now))
    yield from _options("network", before, after)


def _app_volumes(app: str, was: Section, now: Section) -> Iterator[_Change]:
    before, after = ({_volume(app, real): it for real, it in side.items()} for side in (was, now))
    yield from _options("volume", before, after)


def _options(noun: str, was: Section, now: Section) -> Iterator[_Change]:
    for name in _keys(was, now):
        if name not in was or name not in now:
            yield _change(ADDED if name in now else REMOVED, f"{noun} {name}")
        elif was[name] != now[name]:
            yield from _names(f"{noun} {name}", was[name], now[name])


def _app_kong(app: str, was: Section, now: Section) -> Iterator[_Change]:
    if json.dumps(was, sort_keys=True) != json.dumps(now, sort_keys=True):
        yield from _entities(was, now)


_APP: Mapping[str, Phrase] = {"networks": _app_networks, "volumes": _app_volumes, "gateway": _app_kong}

_PHRASES: Mapping[str, Phrase] = {
    "run": _run,
    "environment": _each("env"),
    "files": _files,
    "check": _check,
    "kong": _kong,
    "replicas": _shown("replicas"),
    "update": _update,
    "canary": _canary,
    "depends_on": _each("depends_on"),
    "pull_policy": _shown("pull_policy"),
    "schedule": _shown("schedule"),
    "owner": _shown("owner"),
    "secrets": _secrets,
    "swarm": _swarm,
}

_SWARM: Mapping[str, Phrase] = {
    "replicas": _shown("replicas"),
    "everywhere": _shown("a task on each node", lambda is_so: "yes" if is_so else "no"),
    "constraints": _members("node constraint"),
    "spread": _members("spread over"),
    "most": _shown("replicas per node"),
    "cpus": _shown("reserved cpus"),
    "resources": _each("reserved"),
    "labels": _each("service label"),
    "volumes": _each("options of volume"),
}

_RUN: Mapping[str, Phrase] = {
    **{key: _shown(key) for key in ("network_mode", "ipc", "pid", "uts", "userns_mode", "cgroup", "runtime")},
    **{key: _shown(key) for key in ("platform", "stop_signal", "restart", "user", "cpuset")},
    **{key: _shown(key, _size) for key in ("memswap_limit", "shm_size")},
    **{key: _members(key) for key in ("cap_add", "cap_drop", "group_add", "devices", "expose", "dns", "dns_search")},
    **{key: _each(key.removesuffix("s")) for key in ("annotations", "sysctls", "labels", "ulimits")},
    "mem_limit": _shown("memory", _size),
    "mem_reservation": _shown("memory reservation", _size),
    "stop_grace_period": _shown("stop_grace_period", _seconds),
    "storage_opt": _each("storage option"),
    "ports": _ports,
    "volumes": _volumes,
    "tmpfs": _members("tmpfs"),
    "networks": _networks,
}
