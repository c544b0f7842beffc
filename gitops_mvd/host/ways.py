"""The ways to an instance: the published ports of the host and the route of Kong, asked as users ask them.

A probe asks the container at its own address, where neither the engine's firewall rules and proxies nor Kong lie
between.  A way is at fault only if the container is healthy: a port for which nothing listens in the container says
nothing of the way to it.  UDP is not asked, as silence is an answer there.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import App, Health, Instance, Published, Service
from gitops_mvd.core.ports import Kind, Probe, RouteProof
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.drain import Drain
from gitops_mvd.net.line import dial
from gitops_mvd.net.own_address import source_address
from gitops_mvd.probes import at_port

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
HANG_UP_SECONDS = 0.1  # within which a proxy with nothing behind it has ended a connection that it took
MOST_SEEN = 10_000  # as every deploy brings new ones
BLOCKED = "the container is healthy, the way to it is not"
LOOPBACK = "127.0.0.1"

Verdict = tuple[Health, str]
HEALTHY: Verdict = (Health.HEALTHY, "")


def has_ways(service: Service) -> bool:
    """Is it asked by its users over a port of the host or a route?"""
    return not (service.schedule or service.is_job) and bool(service.run.get("ports") or service.kong)


class Ways:
    """Asks the ways to instances, one try each; any thread may.

    `routes` is the kind of routes, and `route_proof` the Kong that has them, None on a host without one.  While `drain`
    is on, no route leads here, and none is asked.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        routes: Kind,
        route_proof: RouteProof | None,
        disruptions: Disruptions,
        now: Callable[[], float] = time.monotonic,
        own_address: Callable[[], str] = source_address,
        drain: Drain | None = None,
    ) -> None:
        self._probes = probes
        self._routes = routes
        self._route_proof = route_proof
        self._disruptions = disruptions
        self._now = now
        self._own_address = own_address
        self._drain = drain or Drain()
        self._seen: set[tuple[str, str]] = set()  # container and its address of the host that answered once
        self._unchecked: set[str] = set()  # addresses that cannot be asked from here, as was logged

    def ask_ports(self, instance: Instance, service: Service) -> Verdict:
        """Is a healthy instance reached over its published ports?

        PROGRESSING with the reason if it is not, and UNKNOWN while Docker or the server is disrupted.
        """
        if not has_ways(service) or "network_mode" in service.run:
            return HEALTHY
        blocked = (self._blocked_port(instance, service, it) for it in instance.published if it.protocol == "tcp")
        return self._judged(unpublished(instance, service) or next(filter(None, blocked), ""))

    def ask_route(self, instance: Instance, service: Service) -> Verdict:
        """Does the route lead to the service?  The first of its instances asks for all of them; else as `ask_ports`."""
        is_first = instance.name == service.instances(instance.app)[0]
        return self._judged(self._blocked_route(instance.app, service)) if is_first else HEALTHY

    def _judged(self, why: str) -> Verdict:
        if not why:
            return HEALTHY
        if disruption := self._disruptions.since_pass(self._now()):
            return Health.UNKNOWN, disruption
        return Health.PROGRESSING, f"{BLOCKED}: {why}"

    # ---- ports -------------------------------------------------------------------------------------------------------

    def _blocked_port(self, instance: Instance, service: Service, published: Published) -> str:
        """Why a user does not reach the instance over that port, "" if users do or nobody can tell."""
        for address in self._addresses(published.address):
            shown = f"{_shown(address)}:{published.port}"
            try:
                why = self._ask_at(address, instance, service, published)
            except OSError as error:
                self._tell_once(shown, error)
                continue
            if published.address == "::" and not self._was_seen(instance, shown, answers=not why):
                continue  # an engine without its proxy publishes nothing at ::1
            if why:
                return f"{shown} {why}"
        return ""

    def _addresses(self, published: str) -> Iterator[str]:
        """The addresses at which to ask for a port that is published on an address, or on all of them."""
        if published in ("", "0.0.0.0"):
            yield LOOPBACK
            if own := self._own_address():
                yield own
        else:
            yield "::1" if published == "::" else published

    def _was_seen(self, instance: Instance, shown: str, *, answers: bool) -> bool:
        """Has the instance ever answered at that address, as it does now if it `answers`?"""
        if answers:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()  # each is seen again within a minute
            self._seen.add((instance.name, shown))
        return (instance.name, shown) in self._seen

    def _ask_at(self, address: str, instance: Instance, service: Service, published: Published) -> str:
        """Why nothing answers there, "" if something does or not even the container does.  Raises OSError.

        The probe of the service is asked there if it asks that port of the container; any answer counts, as it may be
        another one for whoever comes over this way.
        """
        probe, to = self._probes.get(service.check.probe), at_port(service.check, published.target)

        def fault(ip: str, port: int) -> str:
            if not (probe and to):
                return refusal(ip, port)
            health, why = probe(replace(instance, ip=ip), to(port))
            if health is Health.UNKNOWN:
                raise OSError(why)
            return why

        if why := fault(address, published.port):
            with suppress(OSError):
                return "" if fault(instance.ip, published.target) else why
        return ""

    def _tell_once(self, address: str, error: OSError) -> None:
        if address not in self._unchecked:
            self._unchecked.add(address)
            log.info("published port not checked address=%s reason=%s", address, error.strerror or error)

    # ---- the route ---------------------------------------------------------------------------------------------------

    def _blocked_route(self, app: str, service: Service) -> str:
        """Why the route does not lead to the service, "" if it does or nobody can tell."""
        if not (self._route_proof and service.kong) or self._drain.is_on:
            return ""
        try:
            for route in self._routes.wanted(App(app, (service,))):
                health, why, _ = self._route_proof.answers(route)
                if health in (Health.PROGRESSING, Health.DEGRADED):
                    return why
        except MvdError:  # a secret of the route cannot be read: who deploys tells of it
            pass
        return ""


def unpublished(instance: Instance, service: Service) -> str:
    """The first fixed port of the service that the engine has not published for its instance, "" if it has them all."""
    found = {(it.target, it.protocol, it.port, it.address) for it in instance.published}
    for port in service.run.get("ports", ()):
        target, protocol, published = port["target"], port["protocol"], port["published"]
        if not published.isdecimal():
            continue
        address = _plain(port["host_ip"])
        if not any(it[:3] == (target, protocol, int(published)) and address in ("", it[3]) for it in found):
            return f"the port {f'{_shown(address)}:{published}'.strip(':')} is not published"
    return ""


def refusal(address: str, port: int) -> str:
    """Why a connection is of no use there, "" if it is.  Raises OSError if that cannot be asked from here."""
    try:
        with dial(address, port, CONNECT_SECONDS) as line:
            line.settimeout(HANG_UP_SECONDS)
            try:
                return "" if line.recv(1) else "hangs up at once"
            except TimeoutError:  # it waits for the first word
                return ""
    except ConnectionRefusedError:
        return "refuses the connection"
    except ConnectionError:
        return "hangs up at once"
    except TimeoutError:
        return f"does not answer within {CONNECT_SECONDS:g} s"


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address)) if address else ""


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
