"""Apps whose joined names are the same, such as `shop` with `eu-back` and `shop-eu` with `back`.  Pure.

Networks and instances of a host are named after app and name, joined by `-`, which both may have.  Of two that would be
called the same, that of the app that is later in the alphabet gets another digest, and so another name.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from gitops_mvd.core.model import App, Service, digest


@dataclass(frozen=True)
class Names:
    """The names that the apps of a host have so far."""

    _networks: dict[str, str] = field(default_factory=dict)  # real name -> app
    _instances: dict[str, list[tuple[str, Service]]] = field(default_factory=lambda: defaultdict(list))

    def apart(self, app: App) -> App:
        """The app, with other names for what an app before it has called the same."""
        networks, name = app.all_networks, app.name
        taken = [network for network in networks if self._networks.setdefault(network, name) != name]
        if renamed := {network: _other_name(app, network) for network in taken if _is_joined(app, network)}:
            self._networks.update(dict.fromkeys(renamed.values(), name))
            services = tuple(_on(service, name, renamed) for service in app.services)
            options = {renamed.get(network, network): options for network, options in networks.items()}
            app = replace(app, services=services, networks=options)
        shared = [service for service in app.services if self._is_taken(name, service)]
        if not shared:
            return app
        return replace(app, services=tuple(replace(it, owner=name) if it in shared else it for it in app.services))

    def _is_taken(self, app: str, service: Service) -> bool:
        """Would its instances have the names of those of another app?

        Whatever their image: two names for one image become one digest on the host.
        """
        known = self._instances[f"{app}-{service.name}"]
        known.append((app, service))
        return len(known) > 1 and any(other != app and _same(service, theirs) for other, theirs in known)


def _is_joined(app: App, network: str) -> bool:
    """Does the name of a network follow from app, name and options alone?"""
    options = app.all_networks[network]
    made = network.startswith(f"mvd-{app.name}-") and network.endswith(f"-{digest(options)[:8]}")
    return made and not options.get("external")


def _same(one: Service, other: Service) -> bool:
    return replace(one, image="", owner="").digest == replace(other, image="", owner="").digest


def _other_name(app: App, network: str) -> str:
    return f"{network[:-8]}{digest({'app': app.name, 'network': network})[:8]}"


def _on(service: Service, app: str, renamed: dict[str, str]) -> Service:
    """The service on the renamed networks."""
    endpoints = service.endpoints(app)
    if renamed.keys().isdisjoint(endpoints):
        return service
    networks = {renamed.get(name, name): endpoint for name, endpoint in endpoints.items()}
    return replace(service, run={**service.run, "networks": networks})
