"""The workers of the gateway: each has its own router, its own balancers and its own connections to the targets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from tests.lab.kong_standin.health import Health
from tests.lab.kong_standin.routing import RoundRobin, View
from tests.lab.kong_standin.rules import Record
from tests.lab.kong_standin.store import Store

# With a database, until a worker that has a balancer for an upstream uses its changed targets: as seen of a real Kong.
TARGETS_WITHIN_SECONDS = 0.04
IDLE_CONNECTION_SECONDS = 60.0  # Kong's default of upstream_keepalive_idle_timeout


@dataclass(frozen=True)
class Balancer:
    """The targets of an upstream, as they were when the store had counted so many changes of them."""

    targets: Sequence[Record]
    changes: int


class Worker:
    """What one worker knows, and the requests that it carries.

    Without a database, that is what was posted last.  With one, its router is as old as its last look at the database,
    and it has a balancer for an upstream since it started, since the upstream was changed, or since the first request
    that got as far as balancing.
    """

    def __init__(self, store: Store, health: Health, pid: int) -> None:
        self.pid = pid
        self.open_requests = 0
        self._store = store
        self._view = View(store)
        self._round_robin = RoundRobin(health)
        self._balancers: dict[str, Balancer] = {}
        self._session: aiohttp.ClientSession | None = None
        for upstream in store.all("upstreams"):
            self._make_balancer(upstream)

    async def start(self) -> None:
        """Open the pool, in which connections to targets are kept for the next request."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS, ssl=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=["User-Agent", "Accept", "Accept-Encoding", "Content-Type"],
        )

    async def stop(self) -> None:
        if self._session:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None
        return self._session

    async def look_every(self, seconds: float, first: float) -> None:
        """Look at the database now and then, until cancelled."""
        await asyncio.sleep(first)
        while True:
            self.look()
            await asyncio.sleep(seconds)

    def look(self) -> None:
        if self._view.version != self._store.version:
            self._view = View(self._store)

    def view(self, *, is_current: bool) -> View:
        """By which it routes the next request."""
        if is_current:
            self.look()
        return self._view

    def pick(self, upstream: Record) -> Record | None:
        """The target to try next; None if none serves."""
        if self.targets(upstream) is None:
            self._make_balancer(upstream)
        return self._round_robin.pick(self.targets(upstream) or ())

    def targets(self, upstream: Record) -> Sequence[Record] | None:
        """The targets that it balances over; None without a balancer for this upstream."""
        balancer, changes = self._balancers.get(upstream["id"]), self._store.target_changes(upstream["id"])
        if not self._store.database or (balancer is None and upstream["id"] in self._store.updated_upstreams):
            return self._make_balancer(upstream).targets
        if balancer and balancer.changes != changes.number and time.monotonic() - changes.at > TARGETS_WITHIN_SECONDS:
            return self._make_balancer(upstream).targets
        return balancer.targets if balancer else None

    def _make_balancer(self, upstream: Record) -> Balancer:
        changes = self._store.target_changes(upstream["id"]).number
        made = self._balancers.get(upstream["id"])
        if made is None or made.changes != changes:
            targets = [it for it in self._store.all("targets") if it["upstream"]["id"] == upstream["id"]]
            made = self._balancers[upstream["id"]] = Balancer(targets, changes)
        return made
