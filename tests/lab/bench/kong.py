"""A thousand routes in Kong: to make them, to look at them, to change one; how long it takes, and how many calls.

Beside each is what the bare Admin API takes for the same: one post of the same document, or a PUT of each entity, ten
side by side, which is the least that decK could take.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from gitops_mvd.core.model import App, Change, Json, Resource, Service
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.core.xkong import Declaration, XKong
from gitops_mvd.daemon.loop import MAX_WORKERS
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.admin import PATHS
from gitops_mvd.kong.client import Entity, Kong
from gitops_mvd.kong.declare import Declarations
from gitops_mvd.kong.entities import REFERENCES, entities_of
from tests.fakes import ROLES
from tests.lab.bench.figure import Figure, median
from tests.lab.bench.world import process, told

HOST = "bench"
ADDRESS = "127.0.0.1"
ROUTES = 1000
OF_AN_APP = 5
OF_DECK = 10  # calls that decK has under way at once
RUNS = 5
MODES = {"off": "without a database", "postgres": "with a database"}
LISTS = ("/services?size=1000", "/routes?size=1000", "/upstreams?size=1000", f"/tags/index:{HOST}?size=1000")


@dataclass(frozen=True)
class Bare:
    """An Admin API with nothing in between."""

    url: str
    mode: str
    session: requests.Session
    asked: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(self, method: str, path: str, body: object = None) -> requests.Response:
        answer = self.session.request(method, self.url + path, json=body, timeout=120)
        answer.raise_for_status()
        return answer

    def calls(self) -> int:
        """The calls so far, without these questions."""
        return int(self.ask("GET", "/status").json()["server"]["total_requests"]) - next(self.asked)

    def post(self, entities: Sequence[Entity]) -> None:
        """All of it as one document."""
        document: dict[str, Any] = {"_format_version": "3.0", "_transform": False}
        for entity in entities:
            document.setdefault(entity.type, []).append(_flat(entity.fields))
        self.ask("POST", "/config", {"config": json.dumps(document)})

    def put(self, entities: Sequence[Entity]) -> None:
        """Each of them, ten side by side of those that do not refer to each other: as decK does by default."""
        with ThreadPoolExecutor(OF_DECK) as pool:
            for _, of_a_rank in itertools.groupby(entities, lambda entity: entity.rank):
                list(pool.map(self._put, of_a_rank))

    def _put(self, entity: Entity) -> None:
        if entity.type == "targets":
            self.ask("POST", f"/upstreams/{entity.reference('upstream')}/targets", entity.fields)
        else:
            body = {key: value for key, value in entity.fields.items() if key != "id"}
            self.ask("PUT", f"/{PATHS.get(entity.type, entity.type)}/{entity.id}", body)

    def look(self) -> None:
        for path in ("/status",) if self.mode == "off" else LISTS:
            self.ask("GET", path)


def figures(routes: int = ROUTES) -> Iterator[Figure]:
    """Against the stand-in of the lab, in processes of their own: no lab, no Docker."""
    for mode in MODES:
        yield from _of_a_mode(mode, routes)


def _of_a_mode(mode: str, count: int) -> Iterator[Figure]:
    where = f"{count:,} routes, Kong {MODES[mode]}"
    nobody = Routes(None, HOST)
    apps = [_app(number) for number in range(count // OF_AN_APP)]
    wanted = [_placed(nobody, app) for app in apps]
    entities = sorted((one for routes in wanted for route in routes for one in _entities(route)), key=lambda e: e.rank)
    bare_calls = 1 if mode == "off" else len(entities)
    yardstick = (
        "one bare POST /config of the same document" if mode == "off" else "bare PUTs, ten side by side, as by decK"
    )

    with _gateway(mode) as bare:
        beside = _took(lambda: bare.post(entities) if mode == "off" else bare.put(entities))

    with _gateway(mode) as bare:
        routes = Routes(Kong(bare.url, timeout=60), HOST)
        assert not list(routes.observe())

        def settle(number: int) -> None:
            changes = _changes(apps[number], wanted[number], ())
            routes.prepare(changes)
            routes.apply(changes)

        def settle_all() -> None:
            with ThreadPoolExecutor(MAX_WORKERS) as pool:
                list(pool.map(settle, range(len(apps))))

        before, took = bare.calls(), _took(settle_all)
        calls = bare.calls() - before
        yield Figure(f"{where}, made app by app", took, "s", yardstick, beside)
        yield Figure(f"{where}, made app by app: calls", calls, "calls", yardstick, bare_calls)

    with _gateway(mode) as bare:
        routes = Routes(Kong(bare.url, timeout=60), HOST)
        assert not list(routes.observe())
        planned = _took(lambda: [_changes(app, there, ()) for app, there in zip(apps, wanted, strict=True)])
        yield Figure(f"{where}, planned", planned * 1000, "ms")
        changes = [change for app, there in zip(apps, wanted, strict=True) for change in _changes(app, there, ())]
        before, took = bare.calls(), _took(lambda: routes.apply(changes))
        calls = bare.calls() - before
        yield Figure(f"{where}, made at once", took, "s", yardstick, beside)
        yield Figure(f"{where}, made at once: calls", calls, "calls", yardstick, bare_calls)

        yield from _of_looks(where, routes, bare)

        (changed, *_), number = _placed(nobody, _app(0, path="/changed")), len(list(routes.observe()))
        assert number == count, number
        before, took = bare.calls(), _took(lambda: routes.apply([Change(wanted[0][0], changed)]))
        calls = bare.calls() - before
        (route,) = (one for one in entities_of(changed) if one.type == "routes")
        one = "one bare POST /config of the same document" if mode == "off" else "one bare PUT of the route"
        alone = _took(lambda: bare.post(entities) if mode == "off" else bare.put([route]))
        yield Figure(f"{where}, one of them changed", took * 1000, "ms", one, alone * 1000)
        yield Figure(f"{where}, one of them changed: calls", calls, "calls", one, 1)


def _of_looks(where: str, routes: Routes, bare: Bare) -> Iterator[Figure]:
    yardstick = "a bare GET /status" if bare.mode == "off" else "bare GETs of the same lists"
    list(routes.observe())
    before = bare.calls()
    list(routes.observe())
    calls = bare.calls() - before
    took, beside = median(RUNS, lambda: list(routes.observe())), median(RUNS, bare.look)
    yield Figure(f"{where}, looked at", took.wall * 1000, "ms", yardstick, beside.wall * 1000)
    yield Figure(f"{where}, looked at: calls", calls, "calls", target="<= 4")


def _app(number: int, path: str = "") -> App:
    name = f"app-{number:03}"

    def service(of_it: int) -> Service:
        paths = [path if path and not of_it else f"/{name}/s{of_it}"]
        routes: list[Declaration] = [{"paths": paths}]
        kong: XKong = {
            "port": 8080,
            "protocol": "http",
            "routes": routes,
            "plugins": [],
            "service": {},
            "upstream": {},
        }
        return Service(f"s{of_it}", "registry.example/app:1.0", kong=kong)

    return App(name, tuple(service(of_it) for of_it in range(OF_AN_APP)))


def _placed(routes: Routes, app: App) -> list[Resource]:
    """What is wanted of an app, with addresses as the planner gives them."""
    placed = []
    for port, route in enumerate(routes.wanted(app), 20000):
        targets = [{**target, "address": f"{ADDRESS}:{port}"} for target in route.spec["targets"]]
        placed.append(route.with_spec(targets=targets))
    return placed


def _changes(app: App, wanted: Sequence[Resource], found: Sequence[Resource]) -> list[Change]:
    plan = make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES)
    return [step for step in plan if isinstance(step, Change)]


def _entities(route: Resource) -> list[Entity]:
    return [*entities_of(route), *Declarations(HOST).targets((route.app, route.service), route.spec["targets"])]


def _flat(fields: Json) -> dict[str, Any]:
    return {key: value["id"] if key in REFERENCES and value else value for key, value in fields.items()}


def _took(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


@contextmanager
def _gateway(mode: str) -> Iterator[Bare]:
    """A stand-in for Kong that holds nothing yet."""
    with (
        tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder,
        process(
            *("tests.lab.kong_standin", "--database", mode, "--prefix", folder),
            *("--admin", f"{ADDRESS}:0", "--proxy", f"{ADDRESS}:0"),
        ) as gateway,
        requests.Session() as session,
    ):
        session.trust_env = False
        yield Bare(told(gateway, "admin "), mode, session)
