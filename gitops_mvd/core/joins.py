"""Services that share a namespace of another one: `network_mode: service:vpn` becomes the container of `vpn`.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from gitops_mvd.core.compose import Run
from gitops_mvd.core.model import App
from gitops_mvd.core.plan import startup_order

OF_SERVICE = "service:"
_KEYS = ("network_mode", "ipc", "pid")


def shared(run: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The keys by which a service shares a namespace of another one, with its name."""
    for key in _KEYS:
        value = str(run.get(key, ""))
        if value.startswith(OF_SERVICE):
            yield key, value.removeprefix(OF_SERVICE)


def resolve(app: App) -> App:
    """The app with containers instead of services in the keys that join one.

    A container is named after its version: so who joins one is another version whenever that one is.
    """
    if not any(True for service in app.services for _ in shared(service.run)):
        return app
    known = {service.name: service for service in app.services}
    for name in startup_order(app.services):
        service = known[name]
        containers = {key: known[other].instances(app.name)[0] for key, other in shared(service.run)}
        if containers:
            run = {**service.run, **{key: f"container:{container}" for key, container in containers.items()}}
            known[name] = replace(service, run=cast(Run, run))
    return replace(app, services=tuple(known[service.name] for service in app.services))
