"""What an import does not change, and an operator should know before the first deploy.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gitops_mvd.imports.document import Spot
from gitops_mvd.imports.draft import Draft, Part, several
from gitops_mvd.imports.variables import evaluate
from gitops_mvd.manifest.network import split_port
from gitops_mvd.manifest.storage import split_volume

_REACHING = ("privileged", "cap_add", "devices", "device_cgroup_rules", "security_opt", "cgroup_parent", "runtime")
_NAMESPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")
_MANUAL = "`policy` (mvd docs settings)"


def notes(draft: Draft, project: str) -> None:
    """Notes on all services, and on what the host is to have; `project` is the name that Compose gave it so far."""
    for part in draft.parts():
        _reach(draft, part)
        _ports(draft, part)
        _anonymous(draft, part)
        profiles = part.spot.pair("profiles")
        if profiles:
            names = [spot.value for spot in profiles.value.real.below() if spot.scalar]
            draft.note(
                draft.place(part.file, profiles.key, f"{part.key}.profiles"),
                f"{several(part.services)} is off",
                f"as with `docker compose`: it is on where the host's variable COMPOSE_PROFILES names {several(names)}",
            )
    for file in draft.files:
        for name, pair in file.section("networks").items():
            if _external(pair.value):
                real = _real_name(pair.value, name)
                at = draft.place(file, pair.key, f"networks.{name}")
                draft.note(at, f"the network {real} must be there on each host", f"docker network create {real}")
        for name, pair in file.section("volumes").items():
            at = draft.place(file, pair.key, f"volumes.{name}")
            real = _real_name(pair.value, name)
            if _external(pair.value):
                draft.note(at, f"the volume {real} must be there on each host", f"docker volume create {real}")
                continue
            was = real if _named(pair.value) else f"{project}_{name}"
            now = real if _named(pair.value) else f"{draft.app}_{name}"
            draft.volumes.append((at, was, now))


def _reach(draft: Draft, part: Part) -> None:
    for name in _REACHING:
        pair = part.spot.pair(name)
        if pair and pair.value.real.value != "false" and not pair.value.empty:
            at = draft.place(part.file, pair.key, f"{part.key}.{name}")
            why = f"a host with a policy refuses it, unless its settings trust the app: {_MANUAL}"
            draft.note(at, f"{several(part.services)} reaches out of its container", why)
    for name in _NAMESPACES:
        pair = part.spot.pair(name)
        if pair and pair.value.real.value == "host":
            at = draft.place(part.file, pair.key, f"{part.key}.{name}")
            why = f"a host with a policy refuses it, unless its settings trust the app: {_MANUAL}"
            draft.note(at, f"{several(part.services)} shares the host's {name.removesuffix('_mode')}", why)


def _ports(draft: Draft, part: Part) -> None:
    spot = part.spot.get("ports")
    if spot is None or part.spot.get("x-kong") is not None:
        return
    texts = {evaluate(text, part.file.variables).text for text in _published(spot)}
    published = sorted(texts - {""}, key=lambda it: (len(it), it))
    if published:
        draft.note(
            draft.place(part.file, spot.real, f"{part.key}.ports"),
            f"{several(part.services)} has the host's port{'s' if len(published) > 1 else ''} {several(published)}",
            "it stops before its successor starts. Through Kong it is replaced without a pause: `x-kong` (mvd docs "
            "manifest)",
        )


def _published(ports: Spot) -> Iterator[str]:
    for item in ports.real.items or ():
        if item.real.pairs is not None:
            published = item.real.get("published")
            if published is not None and published.real.value:
                yield published.real.value
        else:
            _, port, _, _ = split_port(re.sub(r"\$\{([A-Za-z_]\w*)[^{}]*\}", _without_colon, item.real.value))
            yield port


def _without_colon(found: re.Match[str]) -> str:
    return found[0].replace(":", "")


def _anonymous(draft: Draft, part: Part) -> None:
    volumes = part.spot.get("volumes")
    for item in (volumes.real.items or ()) if volumes else ():
        text = item.real.value
        if item.real.scalar and text.startswith("/") and not split_volume(text)[0]:
            at = draft.place(part.file, item.real, f"{part.key}.volumes")
            draft.note(
                at, f"{text} is an anonymous volume", "a volume with a name is easier to find, to back up and to move"
            )


def _external(value: Spot) -> bool:
    spot = value.real.get("external")
    return spot is not None and (spot.real.pairs is not None or spot.real.value.lower() == "true")


def _named(value: Spot) -> bool:
    return value.real.get("name") is not None


def _real_name(value: Spot, name: str) -> str:
    spot = value.real.get("name")
    external = value.real.get("external")
    if spot is None and external is not None and external.real.pairs is not None:
        spot = external.real.get("name")
    return spot.real.value if spot is not None else name
