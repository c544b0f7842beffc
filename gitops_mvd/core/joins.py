"""Services that share a namespace of another one: `network_mode: service:vpn` becomes the container of `vpn`.  Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from gitops_mvd.core.compose import Run
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.plan import startup_order

JOINING = ("network_mode", "ipc", "pid")
PREFIX = "service:"


def joined_service(service: Service, key: str) -> str:
    """The service whose namespace is shared by that key; "" if none is."""
    value = str(service.run.get(key, ""))
    return value.removeprefix(PREFIX) if value.startswith(PREFIX) else ""


def resolve(app: App) -> App:
    """The app with containers instead of services in the keys that join one.

    A container is named after its version: so who joins one is another version whenever that one is.
    """
    if not any(joined_service(service, key) for service in app.services for key in JOINING):
        return app
    known = {service.name: service for service in app.services}
    for name in startup_order(app.services):
        service = known[name]
        joins = {key: joined_service(service, key) for key in JOINING}
        containers = {key: known[other].instances(app.name)[0] for key, other in joins.items() if other}
        if containers:
            run = {**service.run, **{key: f"container:{container}" for key, container in containers.items()}}
            known[name] = replace(service, run=cast(Run, run))
    return replace(app, services=tuple(known[service.name] for service in app.services))
