"""What a plan costs those who use an app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from gitops_mvd.core.claims import of_service
from gitops_mvd.core.cost import Cost, cost
from gitops_mvd.core.decide import share
from gitops_mvd.core.difference import differences
from gitops_mvd.core.model import App, Check, Resource, Service, Update
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.core.specs import service_of
from gitops_mvd.manifest.update_order import reasons
from tests.fakes import ROLES, job, service, wanted

HTTP = Check("http", {"path": "/"}, within=20.0, start_period=5.0, hold=3.0)
STOP_FIRST = Update(order="stop-first")
PORT = {"ports": [{"target": 80, "published": "8080", "host_ip": "", "protocol": "tcp"}]}


def fixed(name: str, image: str = "v1", **more: Any) -> Service:
    """A service that stops before its successor starts, as both need one port of the host."""
    return service(name, image, route=False, run=cast(Any, PORT), update=STOP_FIRST, check=HTTP, **more)


def price(before: Sequence[Service], after: Sequence[Service], found: Sequence[Resource] | None = None) -> Cost:
    old, new = App("shop", tuple(before)), App("shop", tuple(after))
    there = wanted(old) if found is None else found
    claims = {it.name: of_service("shop", service_of(it)) for it in (*wanted(new), *there) if it.kind == "unit"}
    plan = make_plan([Side(new, wanted(new), there, claims=claims)], ROLES)
    return cost(plan, new, ROLES, differences(old, new), reasons(new), plan)


def test_what_moves_behind_kong_costs_nothing() -> None:
    assert price([service("web", "v1")], [service("web", "v2")]) == Cost("no downtime", 0.0)


def test_a_fixed_port_costs_the_stop_and_the_start() -> None:
    told = price([fixed("web", "v1")], [fixed("web", "v2")])
    assert told == Cost("up to 35 s down (fixed port 8080)", 35.0), "10 s of grace, and 5 + 20 s to get healthy"


def test_what_is_asked_nothing_is_back_once_it_runs() -> None:
    def one(image: str) -> Service:
        return service("web", image, route=False, update=STOP_FIRST)

    assert price([one("v1")], [one("v2")]) == Cost("up to 15 s down (no route)", 15.0)


def test_the_worst_of_its_services_is_the_price_of_an_app() -> None:
    def db(image: str) -> Service:
        mount = {"type": "volume", "source": "shop_data", "target": "/data", "read_only": False}
        return service("db", image, route=False, run=cast(Any, {"volumes": [mount]}), update=STOP_FIRST)

    told = price([db("v1"), fixed("web", "v1")], [db("v2"), fixed("web", "v2")])
    assert told.text == "up to 35 s down (web: fixed port 8080; db: data in shop_data)"
    assert price([db("v1"), fixed("web")], [db("v2"), fixed("web")]).text == "up to 15 s down (db: data in shop_data)"


def test_replicas_that_take_turns_are_never_all_down() -> None:
    old, new = (service("web", it, replicas=2, update=STOP_FIRST) for it in ("v1", "v2"))
    assert price([old], [new]).text == "no downtime"


def test_a_route_leads_nowhere_until_it_is_switched() -> None:
    old, new = (service("web", it, update=STOP_FIRST, check=HTTP) for it in ("v1", "v2"))
    assert price([old], [new]) == Cost("up to 38 s down (order: stop-first)", 38.0), "with 3 s that it is watched for"


def test_whoever_waits_for_a_job_is_counted() -> None:
    after = {"migrate": "service_completed_successfully"}
    old = [job("migrate", "v1"), *(service(it, "v1", depends_on=after) for it in ("web", "api"))]
    new = [job("migrate", "v2"), *(service(it, "v2", depends_on=after) for it in ("web", "api"))]
    assert price(old, new).text == "no downtime; runs migrate first; 2 services wait for it"
    assert price(old, [new[0], *old[1:]]).text == "no downtime; runs migrate"


def test_what_only_changes_how_it_is_reached_and_asked_restarts_nothing() -> None:
    def one(path: str, within: float) -> Service:
        one = service("web", check=Check("http", within=within))
        return replace(one, kong=cast(Any, {"port": 80, "routes": [{"paths": [path]}]}))

    assert price([one("/a", 1)], [one("/a", 2)]).text == "only health check changes; nothing restarts"
    assert price([one("/a", 1)], [one("/b", 2)]).text == "only health check and route change; nothing restarts"


def test_what_comes_and_what_goes() -> None:
    assert price([], [fixed("web")]).text == "nothing of it runs yet"
    assert price([fixed("web")], []).text == "everything stops for good"
    assert price([service("web"), fixed("db")], [service("web")]).text == "no downtime"


@pytest.mark.parametrize("state", ["failed", "running without its container"])
def test_what_does_not_run_is_not_stopped(state: str) -> None:
    found = [it.with_spec(state=state) if it.kind == "unit" else it for it in wanted(App("shop", (fixed("web"),)))]
    assert price([fixed("web")], [fixed("web", "v2")], found).seconds == 0
    assert price([fixed("web")], [fixed("web")], found).text == "nothing of it runs yet"


# ---- what changes hands ----------------------------------------------------------------------------------------------


def side(old: App, new: App) -> Side:
    claims = {it.name: of_service(it.app, service_of(it)) for it in (*wanted(old), *wanted(new)) if it.kind == "unit"}
    return Side(new, wanted(new), wanted(old), claims=claims)


def test_a_renamed_service_is_down_while_its_port_changes_hands() -> None:
    told = price([fixed("web")], [fixed("frontend")])
    assert told == Cost("up to 35 s down (fixed port 8080)", 35.0)
    assert price([service("web")], [service("frontend")]).seconds == 0, "nothing changes hands"


def test_a_renamed_app_is_down_while_its_port_changes_hands() -> None:
    shop, store = App("shop", (fixed("web"),)), App("store", (fixed("web"),))
    together = make_plan([side(shop, App("shop")), side(App("store"), store)], ROLES)
    prices = [
        cost(share(together, app.name), app, ROLES, differences(App(app.name), app), reasons(app), together)
        for app in (store, App("shop"))
    ]
    assert [it.text for it in prices] == ["up to 35 s down (fixed port 8080)", "everything stops for good"]
