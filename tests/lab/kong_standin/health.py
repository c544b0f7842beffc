"""How the targets of an upstream are: as was said by hand, or seen in the requests.  The stand-in probes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set

from tests.lab.kong_standin import faults
from tests.lab.kong_standin.checks import split_address
from tests.lab.kong_standin.rules import Record

DEFAULT_PORT = 8000  # of a target


class Health:
    """Verdicts given by hand through the Admin API, and passive checks: so many failures, with no answer in between.

    They are lost at a restart, as they are in Kong, and with the target: one with the same address is another one.
    """

    def __init__(self) -> None:
        self._unhealthy: set[str] = set()
        self._failures: Counter[tuple[str, str]] = Counter()

    def failed(self, upstream: Record, target: Record, how: str) -> None:
        """A request did not get there (`tcp_failures`) or was not answered in time (`timeouts`)."""
        self._failures[target["id"], how] += 1
        most = upstream["healthchecks"]["passive"]["unhealthy"][how]
        if most and self._failures[target["id"], how] >= most:
            self._unhealthy.add(target["id"])

    def keep_only(self, targets: Set[str]) -> None:
        """Forget all other targets, which were deleted."""
        self._unhealthy &= targets
        self._failures = Counter({key: count for key, count in self._failures.items() if key[0] in targets})

    def answered(self, target: Record) -> None:
        for how in ("tcp_failures", "timeouts"):
            self._failures.pop((target["id"], how), None)

    def declare(self, upstream: Record, target: Record, healthy: bool) -> None:
        """Take a target out or in; Kong refuses it for an upstream without health checks."""
        if not _checked(upstream):
            raise faults.bad_request(f"no healthchecker found for {upstream['name']}")
        if healthy:
            self._unhealthy.discard(target["id"])
            self.answered(target)
        else:
            self._unhealthy.add(target["id"])

    def serves(self, target: Record) -> bool:
        return target["weight"] > 0 and target["id"] not in self._unhealthy

    def of(self, upstream: Record, target: Record) -> str:
        if not _checked(upstream):
            return "HEALTHCHECKS_OFF"
        return "UNHEALTHY" if target["id"] in self._unhealthy else "HEALTHY"

    def shown(self, upstream: Record, target: Record, balanced: Sequence[Record] | None) -> Record:
        """A target with its health, as GET /upstreams/NAME/health lists it.

        A worker without a balancer tells no health, and one whose balancer lacks the target takes it for unresolved.
        """
        if balanced is None:
            return dict(target)
        if not any(other["target"] == target["target"] for other in balanced):
            return {**target, "health": "DNS_ERROR"}
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
    return host, DEFAULT_PORT if port is None else port


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
