"""How the targets of an upstream are, as far as anybody said so: the stand-in probes nothing by itself."""

from __future__ import annotations

from gitops_mvd.lab.gateway import faults
from gitops_mvd.lab.gateway.checks import split_address
from gitops_mvd.lab.gateway.rules import Record


class Health:
    """Verdicts given by hand through the Admin API; lost at a restart, as they are in Kong."""

    def __init__(self) -> None:
        self._unhealthy: set[str] = set()

    def declare(self, upstream: Record, target: Record, healthy: bool) -> None:
        """Take a target out or in; Kong refuses it for an upstream without health checks."""
        if not _checked(upstream):
            raise faults.bad_request(f"no healthchecker found for {upstream['name']}")
        if healthy:
            self._unhealthy.discard(target["id"])
        else:
            self._unhealthy.add(target["id"])

    def serves(self, target: Record) -> bool:
        return target["weight"] > 0 and target["id"] not in self._unhealthy

    def of(self, upstream: Record, target: Record) -> str:
        if not _checked(upstream):
            return "HEALTHCHECKS_OFF"
        return "UNHEALTHY" if target["id"] in self._unhealthy else "HEALTHY"

    def shown(self, upstream: Record, target: Record) -> Record:
        """A target with its health, as GET /upstreams/NAME/health lists it."""
        host, port = address_of(target)
        health, weight = self.of(upstream, target), target["weight"]
        available = 0 if health == "UNHEALTHY" else weight
        return {
            **target,
            "health": health,
            "data": {
                "host": host,
                "port": port,
                "dns": "A",
                "nodeWeight": weight,
                "weight": {"total": weight, "available": available, "unavailable": weight - available},
                "addresses": [{"ip": host, "port": port, "health": health, "weight": weight}],
            },
        }


def address_of(target: Record) -> tuple[str, int]:
    """Host and port of a target; Kong's default port is 8000."""
    host, port = split_address(target["target"]) or (target["target"], None)
    return host, 8000 if port is None else port


def _checked(upstream: Record) -> bool:
    checks = upstream["healthchecks"]
    active, passive = checks["active"], checks["passive"]
    return any(
        (
            active["healthy"]["interval"],
            active["unhealthy"]["interval"],
            passive["healthy"]["successes"],
            passive["unhealthy"]["http_failures"],
            passive["unhealthy"]["tcp_failures"],
            passive["unhealthy"]["timeouts"],
        )
    )
