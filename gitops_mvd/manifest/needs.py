"""What a server must have before the apps of a commit run on it, that neither Git nor a registry brings.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gitops_mvd.core.model import App, Service
from gitops_mvd.core.secrets import SOPS, SOPS_RAW, provider_of
from gitops_mvd.manifest.references import secret_names

Users = Mapping[str, tuple[str, ...]]
"""What is needed -> the services that need it, as `app/service`, or `app` for what the app as a whole needs."""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of the apps of one host: `volumes` and `folders` have data, and are to be restored before the first start.

    `folders` are those of apps, as `shop/data` below the folder for them, `paths` those of the host, and `networks`
    what somebody else makes.  `secrets` are files of the host; `asked` are names that a provider of the settings
    knows, and `sealed` files of the repository for which the host has the key.  `routed` are those with a route of
    Kong.
    """

    volumes: Users = field(default_factory=dict)
    folders: Users = field(default_factory=dict)
    paths: Users = field(default_factory=dict)
    networks: Users = field(default_factory=dict)
    secrets: Users = field(default_factory=dict)
    asked: Users = field(default_factory=dict)
    sealed: Users = field(default_factory=dict)
    registries: Users = field(default_factory=dict)
    routed: tuple[str, ...] = ()


def needs(apps: Iterable[App]) -> Needs:
    """What the apps of a host need; of a volume that an app declares and no service mounts, the app has it."""
    found: dict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    routed = []
    for app in apps:
        for what, name in _of_app(app):
            found[what][name].append(app.name)
        for service in app.services:
            user = f"{app.name}/{service.name}"
            for what, name in {*_of_service(app, service)}:
                found[what][name].append(user)
            routed += [user] if service.kong else []
    sorted_by_name = {
        what: {name: tuple(users) for name, users in sorted(names.items())} for what, names in found.items()
    }
    return Needs(**sorted_by_name, routed=tuple(routed))


def _of_app(app: App) -> Iterator[tuple[str, str]]:
    mounted = {mount["source"] for service in app.services for mount in service.run.get("volumes", ())}
    yield from (("volumes", name) for name in app.volumes if name not in mounted)
    yield from (("networks", name) for name, network in app.networks.items() if network.get("external"))
    yield from (_secret(name) for name in sorted(secret_names(app.kong_entities)))


def _of_service(app: App, service: Service) -> Iterator[tuple[str, str]]:
    for mount in service.run.get("volumes", ()):
        match mount["type"], mount["source"]:
            case "volume", source if source:
                yield "volumes", source
            case "bind", source if source.startswith("./"):
                yield "folders", f"{app.name}/{source.removeprefix('./')}".rstrip("/")
            case "bind", source:
                yield "paths", source
    yield from (_secret(name) for name in service.secrets)
    yield from (_secret(name) for name in secret_names(service.kong or {}))
    first, slash, _ = (service.tag or service.image).partition("/")
    if slash and (set(first) & set(".:") or first == "localhost"):
        yield "registries", first


def _secret(name: str) -> tuple[str, str]:
    provider, path = provider_of(name)
    if provider in (SOPS, SOPS_RAW):
        return "sealed", path.partition("#")[0]
    return ("asked", name) if provider else ("secrets", name)
