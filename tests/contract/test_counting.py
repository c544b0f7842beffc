"""What Kong tells of the requests of a service, in both of its modes: where they went, and what became of them."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from gitops_mvd.core.canary import PROBE, Numbers
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Change, Check, Gate, Health, Resource, Service
from gitops_mvd.core.route import INSTANCE_PORTS
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.host.trials import Trials
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.counted import PLUGIN
from gitops_mvd.kong.counting import LARGEST_DATAGRAM, Counting, Watch
from tests.contract.gateway import CONNECTIONS, Gateway

HOST = "web-1"
RECORDED = Path(__file__).parent / "recorded_logs" / "kong-tcp-log.json"  # by the same serializer as that of udp-log
QUIET_SECONDS = 0.3  # in which what is told late has come
NEVER_TOLD = ("patience", "secret-cookie", "s3cret", "alice")


class Backend(http.server.ThreadingHTTPServer):
    """An instance of a service that answers with a status, after so many seconds; or `hangs_up` without an answer.

    It listens at `ip`, with that port or any.
    """

    daemon_threads = True

    def __init__(
        self, status: int = 200, seconds: float = 0.0, *, hangs_up: bool = False, ip: str = "127.0.0.1", port: int = 0
    ) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if hangs_up:
                    self.close_connection = True
                    return
                time.sleep(seconds)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__((ip, port), Handler)
        self.address = f"{ip}:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def kong(gateway: Gateway) -> Kong:
    return Kong(gateway.admin, gateway.proxy)


@pytest.fixture
def routes(kong: Kong) -> Routes:
    return Routes(kong, HOST)


@pytest.fixture
def backends() -> Iterator[Callable[..., Backend]]:
    with contextlib.ExitStack() as stack:

        def make(*given: Any, **named: Any) -> Backend:
            backend = stack.enter_context(Backend(*given, **named))
            stack.callback(backend.shutdown)
            return backend

        yield make


def shop(**more: Any) -> App:
    web = Service("web", "shop:1", kong={"port": 80, "protocol": "http", "routes": [{"paths": ["/web"]}], **more})
    return App("shop", (web,))


def published(routes: Routes, app: App, weights: dict[str, int]) -> Resource:
    """Applies the route of an app, counted, with these targets by their address; what was applied."""
    [wanted] = routes.wanted(app)
    targets = [{"instance": f"mvd-{address}", "address": address, "weight": w} for address, w in weights.items()]
    targets.sort(key=lambda it: str(it["instance"]))
    route = wanted.with_spec(targets=targets, counted={"share": 5, "lasts": 30.0})
    found = next(iter(routes.observe()), None)
    routes.apply([Change(found, route)])
    return route


def ask(gateway: Gateway, times: int, path: str = "/web") -> list[int]:
    headers = {"Cookie": "secret-cookie", "apikey": "s3cret"}
    return [
        requests.get(f"{gateway.proxy}{path}?of=patience", headers=headers, timeout=10).status_code
        for _ in range(times)
    ]


def told(numbers: Mapping[str, Numbers]) -> int:
    return sum(sum(it.answered.values()) for it in numbers.values())


def until(watch: Watch, answers: int, within: float = 10) -> dict[str, Numbers]:
    """What was counted, once that many were answered; Kong tells of a request when it is over."""
    end = time.monotonic() + within
    while True:
        found = dict(watch.numbers())
        if told(found) >= answers:
            return found
        assert time.monotonic() < end, f"only {found} was told"
        time.sleep(0.01)


def told_by_each_worker(
    gateway: Gateway, kong: Kong, route: Resource, addresses: list[str], path: str = "/web"
) -> None:
    """Ask until every worker of Kong has the plugin: with a database, each takes its time.

    And until nothing is told any more of requests that were asked before.
    """
    gateway.await_route(path, {200, 500})
    end = time.monotonic() + 20
    while True:
        watch = kong.watch(route, addresses)
        gateway.statuses(path)
        with contextlib.suppress(AssertionError):
            until(watch, CONNECTIONS, within=0.3)
            time.sleep(QUIET_SECONDS)
            if told(watch.numbers()) == CONNECTIONS:
                return
        assert time.monotonic() < end, "the requests are not told"


# ---- the plugin, as a part of a route --------------------------------------------------------------------------------


def test_what_was_applied_is_what_is_observed_with_shares_and_counts(gateway: Gateway, routes: Routes) -> None:
    applied = published(routes, shop(), {"127.0.0.1:20000": 95, "127.0.0.1:20001": 5})
    assert list(routes.observe()) == [applied]
    weights = {it["target"]: it["weight"] for it in gateway.ask("GET", "/upstreams/mvd.shop.web/targets")["data"]}
    assert weights == {"127.0.0.1:20000": 95, "127.0.0.1:20001": 5}
    before = gateway.all("plugins")
    routes.apply([Change(applied, applied)])
    assert [it["id"] for it in gateway.all("plugins")] == [it["id"] for it in before]


def test_the_plugin_goes_with_the_canary_and_leaves_the_others_alone(gateway: Gateway, routes: Routes) -> None:
    app = shop(plugins=[{"name": "correlation-id"}])
    published(routes, app, {"127.0.0.1:20000": 95})
    assert {it["name"] for it in gateway.all("plugins")} == {PLUGIN, "correlation-id"}
    [wanted] = routes.wanted(app)
    wanted = wanted.with_spec(targets=[{"instance": "mvd-a", "address": "127.0.0.1:20000"}])
    routes.apply([Change(next(iter(routes.observe())), wanted)])
    assert {it["name"] for it in gateway.all("plugins")} == {"correlation-id"}
    assert list(routes.observe()) == [wanted]


def test_what_is_told_to_a_process_that_is_gone_is_not_counted_here(gateway: Gateway, routes: Routes) -> None:
    applied = published(routes, shop(), {"127.0.0.1:20000": 95})
    other = Routes(Kong(gateway.admin, gateway.proxy), HOST)
    assert list(other.observe()) == [applied.with_spec(counted={})]
    other.apply([Change(next(iter(other.observe())), applied)])
    assert list(other.observe()) == [applied]


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_requests_errors_and_latencies_are_counted_by_target(
    gateway: Gateway, kong: Kong, routes: Routes, backends: Callable[..., Backend]
) -> None:
    old, new = backends(), backends(500, 0.1)
    route = published(routes, shop(), {old.address: 75, new.address: 25})
    told_by_each_worker(gateway, kong, route, [old.address, new.address])
    watch = kong.watch(route, [old.address, new.address])
    answers = ask(gateway, 40)
    found = until(watch, 40)
    assert watch.is_heard()
    assert found[new.address].errors == found[new.address].requests == answers.count(500)
    assert (found[old.address].errors, found[old.address].requests) == (0, answers.count(200))
    assert 5 <= found[new.address].requests <= 15
    assert found[new.address].latency >= 95
    assert found[old.address].latency < found[new.address].latency


def test_a_target_that_gives_no_answer_has_failed_though_another_one_answers_for_it(
    gateway: Gateway, kong: Kong, routes: Routes, backends: Callable[..., Backend]
) -> None:
    old, new = backends(), backends(hangs_up=True)
    route = published(routes, shop(), {old.address: 50, new.address: 50})
    told_by_each_worker(gateway, kong, route, [old.address, new.address])
    watch = kong.watch(route, [old.address, new.address])
    assert set(ask(gateway, 10)) == {200}
    found = until(watch, 10)
    assert found[old.address].errors == 0
    assert found[new.address].errors == found[new.address].requests > 0


def test_what_kong_answers_by_itself_is_heard_and_counts_for_nobody(
    gateway: Gateway, kong: Kong, routes: Routes, backends: Callable[..., Backend]
) -> None:
    old = backends()
    route = published(routes, shop(plugins=[{"name": "key-auth"}]), {old.address: 50})
    gateway.await_route("/web", {401})
    watch = kong.watch(route, [old.address])
    end = time.monotonic() + 20
    while not watch.is_heard():
        assert set(ask(gateway, 2)) == {401}
        assert time.monotonic() < end, "Kong tells nothing"
    assert watch.numbers() == {old.address: Numbers()}


def test_only_kong_is_believed(gateway: Gateway, kong: Kong, routes: Routes) -> None:
    route = published(routes, shop(), {"127.0.0.1:20000": 95})
    watch = kong.watch(route, ["127.0.0.1:20000"])
    entry = {"tries": [{"ip": "127.0.0.1", "port": 20000}], "response": {"status": 500}, "latencies": {"proxy": 1}}
    [plugin] = gateway.all("plugins")
    at = plugin["config"]["host"], plugin["config"]["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for mvd in ("", "guess mvd.shop.web", None, 7):
            out.sendto(json.dumps({**entry, "mvd": mvd}).encode(), at)
        for content in (b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"mvd": {}}', b"x" * (LARGEST_DATAGRAM - 100)):
            out.sendto(content, at)
    assert watch.numbers() == {"127.0.0.1:20000": Numbers()}
    assert not watch.is_heard()


@pytest.mark.parametrize("address", ["127.0.0.3", "localhost"])
def test_an_instance_is_known_by_where_kong_says_that_it_is(gateway: Gateway, address: str) -> None:
    kong = Kong(gateway.admin, gateway.proxy, address=address)
    instance = f"{address}:20000"
    route = published(Routes(kong, HOST), shop(), {instance: 95})
    watch = kong.watch(route, [instance])
    [plugin] = gateway.all("plugins")
    ip, port = plugin["config"]["host"], plugin["config"]["port"]
    assert port in INSTANCE_PORTS, "a firewall between them has one rule"
    told = plugin["config"]["custom_fields_by_lua"]["mvd"].removeprefix('return "').removesuffix('"')
    entry = {"mvd": told, "response": {"status": 200}, "latencies": {"proxy": 1}}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for at in ({"ip": ip, "port": 20000}, {"ip": "10.9.9.9", "port": 20000}, {"ip": ip, "port": 20001}):
            out.sendto(json.dumps({**entry, "tries": [at]}).encode(), (ip, port))
    assert until(watch, 1)[instance].requests == 1


def test_an_address_is_the_same_however_it_is_written() -> None:
    counting = Counting("127.0.0.1")
    exploded = "[2001:0db8:0000:0000:0000:0000:0000:0001]:20000"  # as Kong has it
    assert counting.place(exploded) == counting.place("[2001:db8::1]:20000") == ("2001:db8::1", 20000)


def test_an_address_that_is_not_of_this_server_is_told(gateway: Gateway) -> None:
    routes = Routes(Kong(gateway.admin, gateway.proxy, address="203.0.113.1"), HOST)
    with pytest.raises(Unavailable, match=r"cannot listen at 203\.0\.113\.1 .*`kong\.address` must be an address of"):
        published(routes, shop(), {"203.0.113.1:20000": 95})


# ---- a trial, from its first request to its end ----------------------------------------------------------------------


@pytest.mark.parametrize(("status", "verdict"), [(200, Health.HEALTHY), (500, Health.DEGRADED)])
def test_a_version_is_judged_by_what_kong_tells(
    gateway: Gateway, kong: Kong, routes: Routes, backends: Callable[..., Backend], status: int, verdict: Health
) -> None:
    old, new = backends(), backends(status)
    route = published(routes, shop(), {old.address: 50, new.address: 50})
    judge = {"min_requests": 10, "errors": 0.1, "latency": 50.0}
    spec = {"share": 50, "new": [new.address], "old": [old.address], "judge": judge}
    gate = Gate(route, Check(PROBE, spec, within=30, hold=1.0))
    trials, clock = Trials(Interruptible(), kong), Interruptible()
    began = clock.now()
    while True:
        health, why, is_over = trials.ask(gate, clock.now())
        if is_over or health is Health.DEGRADED:
            break
        assert clock.now() - began < 30, why
        gateway.statuses("/web")
    assert health is verdict
    assert why == "" if verdict is Health.HEALTHY else why.startswith("canary at 50 %: ")


# ---- what is told ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind(("127.0.0.1", 0))
        here.settimeout(10)
        yield here


def test_neither_url_nor_header_nor_caller_is_told(
    gateway: Gateway, kong: Kong, routes: Routes, backends: Callable[..., Backend]
) -> None:
    route = published(routes, shop(), {backends().address: 95})
    [plugin] = gateway.all("plugins")
    with listening() as here:
        config = {**plugin["config"], "port": here.getsockname()[1]}
        change(gateway, plugin, config)
        gateway.await_route("/web")
        end = time.monotonic() + 20
        here.settimeout(0.2)
        while True:
            ask(gateway, 1)
            with contextlib.suppress(TimeoutError):
                told = here.recv(LARGEST_DATAGRAM).decode()
                break
            assert time.monotonic() < end, "nothing is told"
    assert not [word for word in NEVER_TOLD if word in told]
    assert json.loads(told)["mvd"].endswith(" mvd.shop.web")
    assert route


def test_the_stand_in_tells_of_a_request_with_the_fields_that_kong_has(
    gateway: Gateway, routes: Routes, backends: Callable[..., Backend]
) -> None:
    recorded = json.loads(RECORDED.read_text())
    caller = {"username": "alice", "keyauth_credentials": [{"key": "s3cret"}]}
    routes.apply([Change(None, it) for it in routes.wanted(App("gateway", kong_entities={"consumers": [caller]}))])
    published(routes, shop(plugins=[{"name": "key-auth"}]), {backends(503).address: 95})
    plugin = next(it for it in gateway.all("plugins") if it["name"] == PLUGIN)
    with listening() as here:
        change(gateway, plugin, {"host": "127.0.0.1", "port": here.getsockname()[1], "custom_fields_by_lua": {}})
        gateway.await_route("/web", {503}, {"apikey": "s3cret"})
        here.settimeout(0.2)
        end = time.monotonic() + 20
        while True:
            assert ask(gateway, 1) == [503]
            with contextlib.suppress(TimeoutError):
                told = json.loads(here.recv(LARGEST_DATAGRAM))
                if "consumer" in told and "tries" in told:
                    break
            assert time.monotonic() < end, "nothing is told"
    assert list(differences(recorded, told)) == []
    assert told["tries"][0]["port"] == int(told["tries"][0]["port"])
    assert (told["response"]["status"], told["source"], told["upstream_status"]) == (503, "upstream", "503")


OTHERWISE = ("headers", "querystring", "tags", "paths", "route", "service")  # what was asked, and what serves


def differences(recorded: Any, told: Any, place: str = "") -> Iterator[str]:
    """What is of another shape: keys and types.  A number is a number: Kong rounds the large ones, as 1.79e+18."""
    if isinstance(recorded, dict) and isinstance(told, dict) and place.rpartition(".")[2] not in OTHERWISE:
        for key in (recorded.keys() ^ told.keys()) - {"tags"}:
            yield f"{place}.{key}: only {'recorded' if key in recorded else 'told'}"
        for key in recorded.keys() & told.keys():
            yield from differences(recorded[key], told[key], f"{place}.{key}")
    elif isinstance(recorded, list) and isinstance(told, list) and recorded:
        for item in told:
            yield from differences(recorded[0], item, f"{place}[]")
    elif _type(recorded) is not _type(told):
        yield f"{place}: recorded {recorded!r}, told {told!r}"


def _type(value: Any) -> type:
    return float if type(value) is int else type(value)


def change(gateway: Gateway, plugin: dict[str, Any], config: dict[str, Any]) -> None:
    """Have the plugin be otherwise, by hand."""
    if gateway.mode == "postgres":
        fields = {key: plugin[key] for key in ("name", "service", "tags")}
        gateway.ask("PUT", f"/plugins/{plugin['id']}", json={**fields, "config": config})
        return
    document = gateway.config()
    plugins = [{**it, "config": config} if it["id"] == plugin["id"] else it for it in document["plugins"]]
    gateway.load({**document, "plugins": plugins, "_transform": False})
