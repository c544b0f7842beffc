"""Both listeners of the gateway, in an event loop of the caller's or in a thread of their own."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from aiohttp import web

from tests.lab.kong_standin.admin import Admin, Call
from tests.lab.kong_standin.declarative import load
from tests.lab.kong_standin.health import Health
from tests.lab.kong_standin.policies import INERT
from tests.lab.kong_standin.proxy import SERVER, Proxy
from tests.lab.kong_standin.store import Store
from tests.lab.kong_standin.workers import IDLE_CONNECTION_SECONDS, Worker

LARGEST_BODY = 10 * 1024**2  # bytes; Kong's default of nginx_admin_client_max_body_size
UNLIMITED = 0  # bytes; Kong's default of nginx_http_client_max_body_size
STARTS_WITHIN = 10.0
STOPS_WITHIN = 5.0
WORKERS = 2
FIRST_PID = 100_000  # the process ID that the first worker reports
STATED_FREQUENCY = 5  # seconds, Kong's default: told to clients, whose patience is tested, even if changes hold at once
Address = tuple[str, int]
Where = Address | Path  # a path is that of a unix socket
Handler = Callable[[web.BaseRequest, Worker], Awaitable[web.StreamResponse]]


BANNER = """\
THIS IS NOT KONG. It is the stand-in gateway of the gitops-mvd lab: for trying and testing only.
It speaks the Admin API of Kong 3.9.1 with database={database} and proxies HTTP/1.1 and WebSockets.
Inert: TLS, HTTP/2 and gRPC, streams, health probes, hashing, TTLs, and, stored and returned only,
the plugins {inert}.
admin {admin}
proxy {proxy}"""
Say = Callable[[str], object]
aloud: Say = functools.partial(print, flush=True)


class _Request(web.BaseRequest):
    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """Every answer says who gives it: those of aiohttp's own, to what is no HTTP or too large, go this way too."""
        response.headers["Server"] = SERVER


class Listeners:
    """The Admin API and the proxy over one store; port 0 takes a free one, told by `admin` and `proxy` after start.

    A `declarative` file is what is there in the beginning, as Kong's `declarative_config`; raises Fault where it is
    none.  With a context for TLS, the Admin API, or the proxy, speaks that alone.

    Each connection belongs to one of `workers`, by turns.  With a database, each of them looks every `frequency`
    seconds what was changed, as Kong does each 5 (worker_state_update_frequency); with 0, before every request.

    What it is goes to `say` at every start, and each plugin that is inert once it is configured.
    """

    def __init__(
        self,
        prefix: Path,
        database: bool,
        admin: Where,
        proxy: Address,
        *,
        declarative: Path | None = None,
        admin_tls: ssl.SSLContext | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        workers: int = WORKERS,
        frequency: float = 0.0,
        licensed: bool = True,
        say: Say = aloud,
    ) -> None:
        self.admin = admin
        self.proxy: Where = proxy
        self._tls = {"admin": admin_tls, "proxy": proxy_tls}
        self._store = Store(prefix, database)
        if declarative:
            load(self._store, declarative.read_text(encoding="utf-8"), yaml_only=declarative.suffix != ".json")
        self._health = Health()
        self._workers = [Worker(self._store, self._health, FIRST_PID + number) for number in range(workers)]
        self._next_worker = itertools.cycle(self._workers)
        self._worker_of: WeakKeyDictionary[object, Worker] = WeakKeyDictionary()  # by the connection of a client
        self._frequency = frequency if database else 0.0
        self._licensed = licensed
        self._looks: list[asyncio.Task[None]] = []
        self._proxy = Proxy(self._store, self._health, is_current=not self._frequency)
        self._api: Admin | None = None
        self._runners: list[web.ServerRunner] = []
        self._say = say
        self._told_of: tuple[int, set[str]] = (-1, set())  # the version of the store, and the plugins in it

    @property
    def changes(self) -> int:
        return self._store.version

    def cut_off_database(self) -> None:
        """From now on, it does not reach its database."""
        assert self._api is not None
        self._api.reaches_database = False

    async def start(self) -> None:
        for number, worker in enumerate(self._workers):
            await worker.start()
            if self._frequency:  # not all at the same time
                first = self._frequency * (number + 1) / len(self._workers)
                self._looks.append(asyncio.ensure_future(worker.look_every(self._frequency, first)))
        self.proxy = await self._listen(self._proxy.handle, self.proxy, UNLIMITED, self._tls["proxy"])
        self.admin = await self._listen(self._handle_admin, self.admin, LARGEST_BODY, self._tls["admin"])
        settings: dict[str, object] = {
            "upstream_keepalive_idle_timeout": int(IDLE_CONNECTION_SECONDS),
            "upstream_keepalive_pool_size": 512,
            "worker_state_update_frequency": self._frequency or STATED_FREQUENCY,
            "db_update_frequency": STATED_FREQUENCY,
            "proxy_listen": [_shown(self.proxy)],
            "admin_listen": [_shown(self.admin)],
            "stream_listen": ["off"],
        }
        self._api = Admin(self._store, self._health, self._workers, settings, licensed=self._licensed)
        where = {
            name: url(at, tls=self._tls[name] is not None)
            for name, at in (("admin", self.admin), ("proxy", self.proxy))
        }
        database = "postgres" if self._store.database else "off"
        self._say(BANNER.format(database=database, inert=", ".join(INERT), **where))
        self._tell_of_inert_plugins()

    def _tell_of_inert_plugins(self) -> None:
        version, told = self._told_of
        if version != self._store.version:
            there = {plugin["name"] for plugin in self._store.all("plugins")} & set(INERT)
            for name in sorted(there - told):
                self._say(f"INERT: the plugin {name} is stored and returned, and does nothing here")
            self._told_of = self._store.version, told | there

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        for look in self._looks:
            look.cancel()
        for worker in self._workers:
            await worker.stop()
        self._store.close()

    async def _listen(self, handler: Handler, at: Where, largest_body: int, tls: ssl.SSLContext | None) -> Where:
        loop = asyncio.get_running_loop()
        with_limit = functools.partial(_Request, loop=loop, client_max_size=largest_body)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await handler(request, self._worker(request))

        server = web.Server(handle, request_factory=with_limit, access_log=None, auto_decompress=False)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        if isinstance(at, Path):
            await web.UnixSite(runner, at).start()
            return at
        await web.TCPSite(runner, *at, backlog=1024, ssl_context=tls).start()
        host, port = runner.addresses[0][:2]
        return str(host), int(port)

    def _worker(self, request: web.BaseRequest) -> Worker:
        """The one that took the connection, by turns; it has all requests on it."""
        connection = request.transport
        if connection is None:  # hung up
            return next(self._next_worker)
        if connection not in self._worker_of:
            self._worker_of[connection] = next(self._next_worker)
        return self._worker_of[connection]

    async def _handle_admin(self, request: web.BaseRequest, worker: Worker) -> web.StreamResponse:
        assert self._api is not None
        path = request.raw_path.partition("?")[0]
        segments = tuple(unquote(segment) for segment in path.split("/") if segment)
        query = dict(request.rel_url.query)
        method = "GET" if request.method == "HEAD" else request.method
        status, body = self._api.answer(Call(worker, method, segments, query, await request.read()))
        self._tell_of_inert_plugins()
        headers = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Credentials": "true",
        }
        if body is None:
            return web.Response(status=status, headers=headers)
        headers["Content-Type"] = "application/json; charset=utf-8"
        return web.Response(status=status, headers=headers, body=json.dumps(body, separators=(",", ":")).encode())


class StandIn:
    """The stand-in gateway in a thread, for tests and stories; `admin_url` and `proxy_url` say where it listens."""

    def __init__(
        self,
        prefix: Path,
        database: str = "off",
        admin: Where = ("127.0.0.1", 0),
        proxy: Address = ("127.0.0.1", 0),
        *,
        declarative: Path | None = None,
        admin_tls: ssl.SSLContext | None = None,
        proxy_tls: ssl.SSLContext | None = None,
        workers: int = WORKERS,
        frequency: float = 0.0,
        licensed: bool = True,
        say: Say = aloud,
    ) -> None:
        self._listeners = Listeners(
            prefix,
            database == "postgres",
            admin,
            proxy,
            declarative=declarative,
            admin_tls=admin_tls,
            proxy_tls=proxy_tls,
            workers=workers,
            frequency=frequency,
            licensed=licensed,
            say=say,
        )
        self._is_tls = admin_tls is not None, proxy_tls is not None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab-gateway", daemon=True)

    @property
    def admin_url(self) -> str:
        return url(self._listeners.admin, tls=self._is_tls[0])

    @property
    def proxy_url(self) -> str:
        return url(self._listeners.proxy, tls=self._is_tls[1])

    @property
    def changes(self) -> int:
        """How often what it holds was changed."""
        return self._listeners.changes

    def cut_off_database(self) -> None:
        """From now on, it does not reach its database."""
        self._loop.call_soon_threadsafe(self._listeners.cut_off_database)

    def __enter__(self) -> StandIn:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listeners.start(), self._loop).result(STARTS_WITHIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._listeners.stop(), self._loop).result(STOPS_WITHIN)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOPS_WITHIN)
        self._loop.close()


def url(at: Where, *, tls: bool = False) -> str:
    if isinstance(at, Path):
        return f"unix://{at}"
    return f"http{'s' * tls}://{at[0]}:{at[1]}"


def _shown(at: Where) -> str:
    return f"unix:{at}" if isinstance(at, Path) else f"{at[0]}:{at[1]} reuseport backlog=16384"
