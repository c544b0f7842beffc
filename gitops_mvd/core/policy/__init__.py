"""What this host lets the repository do with it: the host has the last word, not Git.  Pure.

It is an allow-list: what nothing here names is forbidden.

rules       a policy, its levels, what is known of the host   containers  what a container may be, by level
names       volumes, networks, secrets, images of an app      paths       which paths of the host may be mounted
gateway     where Kong may lead, and with which plugins
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App
from gitops_mvd.core.policy.containers import CHECKED, FORBIDDEN, HARMLESS, forbidden_keys
from gitops_mvd.core.policy.gateway import ADMIN, admin_api_of, forbidden_in_gateway
from gitops_mvd.core.policy.names import forbidden_image, forbidden_network, forbidden_secrets, forbidden_volume
from gitops_mvd.core.policy.rules import LEVELS, PRIVATE, Policy, Server

__all__ = ["CHECKED", "FORBIDDEN", "HARMLESS", "LEVELS", "PRIVATE", "Policy", "Server", "enforce", "secrets_of"]

_ANY_HOST = Server()
_SECRET = re.compile(r"\{(file|vault)://([^{}]*)\}")


def enforce(policy: Policy | None, app: App, server: Server = _ANY_HOST) -> None:
    """Raise StepFailed with all that this host does not let `app` do.

    Without a policy everything is allowed, and so is everything to a trusted app, but a way to Kong's Admin API.
    """
    if routed := list(admin_api_of(server, app)):
        raise StepFailed(f"{'; '.join(routed)} {ADMIN}", "whoever is on the host can ask it there")
    if policy is None or app.name in policy.trusted:
        return
    if broken := list(dict.fromkeys(_forbidden(policy, server, app))):
        raise StepFailed(f"this host's policy forbids {'; '.join(broken)}", "`policy` in the settings of the host")


def _forbidden(policy: Policy, server: Server, app: App) -> Iterator[str]:
    for service in app.services:
        told = [*forbidden_keys(policy, server, app, service), *forbidden_image(policy, service)]
        told += forbidden_in_gateway(policy, server, service.kong or {})
        yield from (f"{service.name}: {why}" for why in told)
    for name, volume in app.volumes.items():
        yield from forbidden_volume(policy, server, app, name, volume)
    for name, network in app.networks.items():
        yield from forbidden_network(policy, app, name, network)
    yield from (f"kong: {why}" for why in forbidden_in_gateway(policy, server, app.kong_entities))
    yield from forbidden_secrets(policy, app.name, secrets_of(app))


def secrets_of(app: App) -> Iterator[str]:
    """The secrets that an app refers to: names of those of the host, and `vault://...` for those of Kong's vaults."""
    for service in app.services:
        yield from service.secrets
        yield from _referred_to(service.kong)
    yield from _referred_to(app.kong_entities)


def _referred_to(value: object) -> Iterator[str]:
    match value:
        case str():
            yield from (name if kind == "file" else f"vault://{name}" for kind, name in _SECRET.findall(value))
        case Mapping():
            for below in value.values():
                yield from _referred_to(below)
        case list() | tuple():
            for below in value:
                yield from _referred_to(below)
