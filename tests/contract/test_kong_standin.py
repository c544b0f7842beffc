"""The stand-in gateway answers as the recorded Kong did, and carries requests as one would."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
import yaml
from aiohttp import web
from yarl import URL

from tests.lab.kong_standin import StandIn

FIXTURES = Path(__file__).parent / "fixtures" / "kong"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
IDS = {"id", "node_id", "entity_id"}
TIMES = {"created_at", "updated_at"}


class Comparison:
    """What differs between two answers, apart from what may: ids that Kong makes up, times, the node's name.

    Ids derived from a name, or chosen by the client, are UUIDs of version 5 and have to be the same. Those made up are
    of version 4: each has to stand for one and the same recorded id from its first answer to the last.
    """

    def __init__(self) -> None:
        self.recorded_for: dict[str, str] = {}

    def differences(self, recorded: Any, actual: Any, place: str = "", key: str = "") -> Iterator[str]:
        if key in IDS and recorded != actual and is_made_up(recorded) and is_made_up(actual):
            if recorded not in self.recorded_for.values():
                self.recorded_for.setdefault(actual, recorded)
            if self.recorded_for.get(actual) != recorded:
                yield f"{place}: {actual} stands for {self.recorded_for.get(actual)}, not for {recorded}"
        elif key in TIMES or key == "hostname":
            if type(actual) is not type(recorded):
                yield f"{place}: {actual!r} is not of the type of {recorded!r}"
        elif key == "config" and isinstance(recorded, str) and isinstance(actual, str):
            yield from self.differences(yaml.safe_load(recorded), yaml.safe_load(actual), f"{place}(yaml)")
        elif isinstance(recorded, dict) and isinstance(actual, dict):
            yield from self._of_dicts(recorded, actual, place)
        elif isinstance(recorded, list) and isinstance(actual, list) and len(recorded) == len(actual):
            if key == "data":  # rows are in the order of their ids
                recorded, actual = sorted(recorded, key=str), sorted(self._in_recorded_words(actual), key=str)
            for position, (left, right) in enumerate(zip(recorded, actual, strict=True)):
                yield from self.differences(left, right, f"{place}[{position}]")
        elif recorded != actual or type(recorded) is not type(actual):
            yield f"{place}: recorded {recorded!r}, got {actual!r}"

    def _of_dicts(self, recorded: dict[str, Any], actual: dict[str, Any], place: str) -> Iterator[str]:
        made_up = [key for key in actual if is_made_up(key)]
        expected = [key for key in recorded if is_made_up(key)]
        self.recorded_for |= dict(zip(made_up, expected, strict=False))
        actual = {self.recorded_for.get(key, key): value for key, value in actual.items()}
        for key in recorded.keys() - actual.keys():
            yield f"{place}.{key}: missing"
        for key in actual.keys() - recorded.keys():
            yield f"{place}.{key}: not in the recording"
        for key in recorded.keys() & actual.keys():
            yield from self.differences(recorded[key], actual[key], f"{place}.{key}", key)

    def _in_recorded_words(self, rows: list[Any]) -> list[Any]:
        text = UUID.sub(lambda id: self.recorded_for.get(id[0], id[0]), json.dumps(rows))
        words: list[Any] = json.loads(re.sub(r'("(?:created|updated)_at": )\d+(\.\d+)?', _same_time, text))
        return words


def is_made_up(id: Any) -> bool:
    return isinstance(id, str) and UUID.fullmatch(id) is not None and id[14] == "4"


def _same_time(found: re.Match[str]) -> str:
    return found[1] + ("1760000000.5" if found[2] else "1760000000")


def without(body: Any, omitted: list[str]) -> Any:
    if isinstance(body, dict):
        return {key: without(value, omitted) for key, value in body.items() if key not in omitted}
    return [without(each, omitted) for each in body] if isinstance(body, list) else body


@pytest.mark.parametrize("mode", ["dbless", "postgres"])
def test_the_stand_in_answers_every_recorded_exchange_as_kong_did(mode: str, tmp_path: Path) -> None:
    script = json.loads((FIXTURES / f"{mode}.json").read_text(encoding="utf-8"))
    comparison, found = Comparison(), []
    with StandIn(tmp_path, database="off" if mode == "dbless" else "postgres") as gateway:
        for exchange in script["exchanges"]:
            asked, expected = exchange["request"], exchange["response"]
            answer = requests.request(
                asked["method"],
                gateway.admin_url + asked["path"],
                params=asked.get("params"),
                json=asked.get("body"),
                data=asked.get("raw"),
                timeout=10,
            )
            body = without(answer.json() if answer.content else None, expected.get("omitted", []))
            if answer.status_code != expected["status"]:
                found.append(f"{exchange['name']}: status {answer.status_code}, recorded {expected['status']}: {body}")
            found += [f"{exchange['name']}: {line}" for line in comparison.differences(expected["body"], body)]
            assert "not Kong" in answer.headers["Server"]
    assert found == []


class Backend:
    """A service behind the gateway: it answers every request with its name and what it was asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0

    async def __aenter__(self) -> Backend:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=5.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = "127.0.0.1:{1}".format(*self._runner.addresses[0])
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += 1
        if request.headers.get("Upgrade") == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                if message.data == "bye":
                    await socket.close(code=4000)
                elif message.data == "die":
                    assert request.transport
                    request.transport.close()
                else:
                    await socket.send_str(f"{self.name} {message.data}")
            return socket
        body = {
            "name": self.name,
            "method": request.method,
            "path": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
        return web.json_response(body, headers={"Server": "backend"})


TARGETS_USED_WITHIN_SECONDS = 0.1  # by a worker that balances over them


class Kong:
    """The Admin API in the words of these tests, and the proxy beside it.  Changed targets are given time."""

    def __init__(self, gateway: StandIn, session: aiohttp.ClientSession) -> None:
        self._gateway, self._session = gateway, session

    async def get(self, path: str) -> dict[str, Any]:
        async with self._session.get(self._gateway.admin_url + path) as answer:
            body: dict[str, Any] = await answer.json()
            return body

    async def put(self, path: str, /, **fields: Any) -> dict[str, Any]:
        async with self._session.put(self._gateway.admin_url + path, json=fields) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 200, body
        await self._given_time(path)
        return body

    async def post(self, path: str, /, **fields: Any) -> dict[str, Any]:
        async with self._session.post(self._gateway.admin_url + path, json=fields) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == 201, body
        await self._given_time(path)
        return body

    async def delete(self, path: str) -> None:
        async with self._session.delete(self._gateway.admin_url + path) as answer:
            assert answer.status == 204
        await self._given_time(path)

    async def _given_time(self, path: str) -> None:
        if "/targets" in path:
            await asyncio.sleep(TARGETS_USED_WITHIN_SECONDS)

    async def publish(self, name: str, *targets: str, route: dict[str, Any], **service: Any) -> None:
        """A service with an upstream of its own name, its targets, and a route."""
        await self.put(f"/upstreams/{name}")
        for target in targets:
            await self.post(f"/upstreams/{name}/targets", target=target)
        await self.put(f"/services/{name}", host=name, **service)
        await self.put(f"/services/{name}/routes/{name}", **route)

    async def ask(self, path: str, method: str = "GET", **more: Any) -> tuple[int, Any, dict[str, str]]:
        url = URL(self._gateway.proxy_url + path, encoded=True)
        async with self._session.request(method, url, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, dict(answer.headers)

    def socket(self, path: str) -> Any:
        return self._session.ws_connect(self._gateway.proxy_url + path)

    async def names(self, path: str, count: int) -> list[str]:
        return [(await self.ask(path))[1]["name"] for _ in range(count)]


Story = Callable[[Kong], Any]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    """Run a story against a gateway with a database and one worker, which is never behind."""

    def told(story: Story) -> None:
        with StandIn(tmp_path, database="postgres", workers=1) as gateway:

            async def run() -> None:
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                    await story(Kong(gateway, session))

            asyncio.run(run())

    return told


Tell = Callable[[Story], None]


def test_a_route_takes_what_begins_with_its_path(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop, Backend("admin") as admin:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            await kong.publish("shop-admin", admin.address, route={"paths": ["/shop/admin"]})
            assert await kong.names("/shop/items", 1) == ["shop"]
            assert await kong.names("/shop/admin/users", 1) == ["admin"]
            status, body, headers = await kong.ask("/elsewhere")
            assert (status, body["message"]) == (404, "no Route matched with those values")
            assert "not Kong" in headers["Server"]

    tell(story)


def test_hosts_methods_headers_and_regexes_choose_the_route(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("any") as any_, Backend("host") as host, Backend("post") as post, Backend("regex") as regex:
            await kong.publish("any", any_.address, route={"paths": ["/"]})
            await kong.publish("host", host.address, route={"hosts": ["*.example.org"], "paths": ["/"]})
            await kong.publish("post", post.address, route={"methods": ["POST"], "paths": ["/"]})
            await kong.publish("regex", regex.address, route={"paths": [r"~/items/\d+$"]})
            assert (await kong.ask("/a"))[1]["name"] == "any"
            assert (await kong.ask("/a", headers={"Host": "uk.example.org:8000"}))[1]["name"] == "host"
            assert (await kong.ask("/a", method="POST"))[1]["name"] == "post"
            assert await kong.names("/items/12", 1) + await kong.names("/items/x", 1) == ["regex", "any"]

    tell(story)


@pytest.mark.parametrize(
    ("base", "strip", "asked", "got"),
    [
        (None, True, "/shop", "/"),
        (None, True, "/shop/items?page=2", "/items?page=2"),
        (None, False, "/shop/items", "/shop/items"),
        ("/api", True, "/shop", "/api"),
        ("/api", True, "/shop/", "/api/"),
        ("/api", True, "/shopping", "/api/ping"),
        ("/api/", True, "/shop/a%20b", "/api/a%20b"),
        ("/api", False, "/shop/items", "/api/shop/items"),
    ],
)
def test_the_service_gets_the_path_that_kong_would_send(
    tell: Tell, base: str | None, strip: bool, asked: str, got: str
) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, path=base, route={"paths": ["/shop"], "strip_path": strip})
            assert (await kong.ask(asked))[1]["path"] == got

    tell(story)


@pytest.mark.parametrize(
    ("path", "strip", "asked", "got"),
    [
        ("/ö", True, "/%c3%b6/b%20c%2fd", "/base/b%20c%2Fd"),
        ("/a b", False, "/a%20b/c", "/base/a%20b/c"),
        ("/x%2Fy", True, "/x%2fy/z", "/base/z"),
        ("~/r/(?<n>ö+)$", True, "/r/%C3%B6%C3%B6", "/base"),
        ("/d", True, "/d/%41%7E%22/../x", "/base/x"),
        ("/d", True, "/d//y/./", "/base/y/"),
        ("/d", True, "/d/a|b", "/base/a%7Cb"),
        ("/d", True, "/d/%FF", None),
    ],
)
def test_paths_are_compared_decoded_and_sent_on_encoded(
    tell: Tell, path: str, strip: bool, asked: str, got: str | None
) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, path="/base", route={"paths": [path], "strip_path": strip})
            status, answer, _ = await kong.ask(asked)
            assert (status, answer.get("path")) == ((200, got) if got else (404, None))

    tell(story)


def test_requests_reach_the_service_whole(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"], "preserve_host": True})
            body = "x" * 300_000
            status, got, _ = await kong.ask("/shop", method="POST", data=body, headers={"Host": "shop.example"})
            assert (status, got["method"], got["body"] == body) == (200, "POST", True)
            assert got["headers"]["host"] == "shop.example"
            assert got["headers"]["x-forwarded-prefix"] == "/shop"
            assert got["headers"]["x-forwarded-for"] == "127.0.0.1"

    tell(story)


def test_load_is_shared_by_weight(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("a") as a, Backend("b") as b:
            await kong.publish("shop", a.address, b.address, route={"paths": ["/shop"]})
            await kong.put(f"/upstreams/shop/targets/{b.address}", weight=300)
            names = await kong.names("/shop", 40)
            assert (names.count("a"), names.count("b")) == (10, 30)
            await kong.put(f"/upstreams/shop/targets/{a.address}", weight=0)
            assert set(await kong.names("/shop", 10)) == {"b"}

    tell(story)


def test_a_target_that_refuses_is_passed_over(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("alive") as alive:
            async with Backend("dead") as dead:
                pass
            await kong.publish("shop", alive.address, dead.address, route={"paths": ["/shop"]})
            assert set(await kong.names("/shop", 10)) == {"alive"}

    tell(story)


def test_a_target_that_fails_so_often_is_taken_out_by_passive_checks(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("alive") as alive:
            async with Backend("dead") as dead:
                pass
            await kong.publish("shop", alive.address, dead.address, route={"paths": ["/shop"]})
            await kong.put("/upstreams/shop", healthchecks={"passive": {"unhealthy": {"tcp_failures": 5}}})

            async def health() -> dict[str, str]:
                listed = (await kong.get("/upstreams/shop/health"))["data"]
                return {target["target"]: target["health"] for target in listed}

            assert set(await kong.names("/shop", 2)) == {"alive"}
            assert await health() == {alive.address: "HEALTHY", dead.address: "HEALTHY"}
            assert set(await kong.names("/shop", 20)) == {"alive"}
            assert await health() == {alive.address: "HEALTHY", dead.address: "UNHEALTHY"}

    tell(story)


def test_who_can_not_be_reached_is_answered_for(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        await kong.publish("empty", route={"paths": ["/empty"]})
        await kong.publish("dead", "127.0.0.1:1", route={"paths": ["/dead"]})
        answers = [(await kong.ask(path))[:2] for path in ("/empty", "/dead")]
        assert [(status, body["message"]) for status, body in answers] == [
            (503, "failure to get a peer from the ring-balancer"),
            (502, "An invalid response was received from the upstream server"),
        ]

    tell(story)


def test_a_switch_of_targets_under_load_loses_no_request(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        answers: list[tuple[int, str]] = []
        rounds = [0] * 8
        switched = asyncio.Event()

        async def client(number: int) -> None:
            while len(answers) < 500 or not switched.is_set():
                status, body, _ = await kong.ask("/shop", method="POST", data="order")
                answers.append((status, body.get("name") or body["message"]))
                rounds[number] += 1

        async with Backend("new") as new:
            async with Backend("old") as old:
                await kong.publish("shop", old.address, route={"paths": ["/shop"]})
                clients = [asyncio.ensure_future(client(number)) for number in range(len(rounds))]
                await until(lambda: len(answers) > 100)
                await kong.post("/upstreams/shop/targets", target=new.address)
                await until(lambda: new.asked)
                await kong.delete(f"/upstreams/shop/targets/{old.address}")
                removed, served = list(rounds), old.asked
                # Drained: whatever was under way when the target was removed has been answered.
                await until(lambda: all(now > then for now, then in zip(rounds, removed, strict=True)))
                assert old.asked <= served + len(rounds)
            switched.set()  # the old one is gone for good here
            await asyncio.gather(*clients)
            assert set(answers) == {(200, "old"), (200, "new")}
            assert set(await kong.names("/shop", 5)) == {"new"}

    tell(story)


async def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "did not come true within 10 s"
        await asyncio.sleep(0.005)


# ---- a target that breaks off ----------------------------------------------------------------------------------------


Then = Callable[[asyncio.StreamWriter], Any]


class Wayward:
    """A service that answers so many requests well, and then does with every connection what it likes."""

    def __init__(self, answers: int, then: Then) -> None:
        self.asked: list[str] = []
        self._answers = answers
        self._then = then
        self._serving: set[asyncio.Task[Any]] = set()

    @property
    def connections(self) -> int:
        return len(self._serving)

    async def __aenter__(self) -> Wayward:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return False
        length = re.search(r"(?i)content-length: (\d+)", head)
        body = (await reader.readexactly(int(length[1]))).decode() if length else ""
        self.asked.append(" ".join([head.split()[0], body]).strip())
        if len(self.asked) > self._answers:
            await self._then(writer)
            return False
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"name":"wayward"}')
        return True


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close without a word, when the request was read."""


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def fall_silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)


async def half_a_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")


BREAKS: dict[Then, int] = {
    hang_up: 502,
    reset: 502,
    half_a_head: 502,
    fall_silent: 504,
}


@pytest.mark.parametrize("then", BREAKS)
@pytest.mark.parametrize("answers", [0, 1], ids=["on a new connection", "on a connection that was kept"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_what_may_be_asked_twice_goes_to_the_next_target_when_one_breaks_off_before_its_answer(
    tell: Tell, method: str, answers: int, then: Then
) -> None:
    async def story(kong: Kong) -> None:
        async with Wayward(answers, then) as wayward, Backend("well") as well:
            await kong.publish("shop", wayward.address, well.address, route={"paths": ["/shop"]}, read_timeout=200)
            told = [await kong.ask("/shop", method=method, data="order") for _ in range(2 * answers + 2)]
            assert [status for status, _, _ in told] == [200] * len(told)
            assert [body["name"] for _, body, _ in told].count("wayward") == answers
            assert {body["body"] for _, body, _ in told if body["name"] == "well"} == {"order"}
            assert len(wayward.asked) > answers
            assert set(wayward.asked) == {f"{method} order"}

    tell(story)


@pytest.mark.parametrize("then", BREAKS)
@pytest.mark.parametrize("answers", [0, 1], ids=["on a new connection", "on a connection that was kept"])
def test_what_may_not_be_asked_twice_fails_when_a_target_breaks_off_and_no_other_gets_it(
    tell: Tell, answers: int, then: Then
) -> None:
    async def story(kong: Kong) -> None:
        async with Wayward(answers, then) as wayward:
            await kong.publish("shop", wayward.address, route={"paths": ["/shop"]}, read_timeout=200)
            for _ in range(answers):
                assert (await kong.ask("/shop", method="POST", data="order"))[0] == 200
            async with Backend("well") as well:
                await kong.post("/upstreams/shop/targets", target=well.address)
                told = {(await kong.ask("/shop", method="POST", data="order"))[0] for _ in range(2)}
                assert told == {200, BREAKS[then]}
                assert (well.asked, len(wayward.asked)) == (1, answers + 1)

    tell(story)


def test_what_may_not_be_asked_twice_goes_to_the_next_target_when_one_refuses(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("alive") as alive:
            async with Backend("dead") as dead:
                pass
            await kong.publish("shop", dead.address, alive.address, route={"paths": ["/shop"]})
            told = [await kong.ask("/shop", method="POST", data="order") for _ in range(4)]
            assert [(status, body["name"], body["body"]) for status, body, _ in told] == [(200, "alive", "order")] * 4

    tell(story)


ANSWERS = {
    "of a known length": b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{",
    "of a large known length": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"1" * 50_000,
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_that_breaks_off_in_its_middle_breaks_off_for_the_client(tell: Tell, answer: str) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWERS[answer])
        await asyncio.sleep(0.05)

    async def story(kong: Kong) -> None:
        async with Wayward(0, half) as wayward:
            await kong.publish("shop", wayward.address, route={"paths": ["/shop"]})
            async with Backend("well") as well:
                await kong.post("/upstreams/shop/targets", target=well.address)
                broken = 0
                for _ in range(2):
                    try:
                        assert (await kong.ask("/shop"))[1]["name"] == "well"
                    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
                        broken += 1
                assert (broken, well.asked, wayward.asked) == (1, 1, ["GET"])

    tell(story)


def test_who_hangs_up_on_everybody_is_answered_for_after_so_many_tries(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Wayward(0, hang_up) as wayward:
            await kong.publish("shop", wayward.address, route={"paths": ["/shop"]}, retries=2)
            status, body, _ = await kong.ask("/shop")
            assert (status, body["message"]) == (502, "An invalid response was received from the upstream server")
            assert len(wayward.asked) >= 3

    tell(story)


def test_web_sockets_are_carried_both_ways(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("chat") as chat:
            await kong.publish("chat", chat.address, route={"paths": ["/chat"]})
            async with kong.socket("/chat") as socket:
                for word in ("hello", "again"):
                    await socket.send_str(word)
                    assert await socket.receive_str(timeout=5) == f"chat {word}"

    tell(story)


def test_a_web_socket_is_closed_as_the_other_side_closed_it(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("chat") as chat:
            await kong.publish("chat", chat.address, route={"paths": ["/chat"]})
            async with kong.socket("/chat") as socket:
                await socket.send_str("bye")
                message = await socket.receive(timeout=5)
                assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4000)

    tell(story)


def test_a_web_socket_whose_other_side_dies_breaks_off_without_a_word(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("chat") as chat:
            await kong.publish("chat", chat.address, route={"paths": ["/chat"]})
            async with kong.socket("/chat") as socket:
                await socket.send_str("die")
                assert (await socket.receive(timeout=5)).type == aiohttp.WSMsgType.CLOSED

    tell(story)


def test_key_auth_lets_in_who_has_a_key_and_acl_who_is_in_the_group(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            await kong.post("/routes/shop/plugins", name="key-auth", config={"hide_credentials": True})
            await kong.post("/services/shop/plugins", name="acl", config={"allow": ["staff"]})
            for name in ("ann", "bob"):
                await kong.put(f"/consumers/{name}")
                await kong.post(f"/consumers/{name}/key-auth", key=f"key-of-{name}")
            await kong.post("/consumers/ann/acls", group="staff")
            status, body, headers = await kong.ask("/shop")
            assert (status, body["message"]) == (401, "No API key found in request")
            assert headers["WWW-Authenticate"] == "Key"
            status, body, _ = await kong.ask("/shop", headers={"apikey": "wrong"})
            assert (status, body["message"]) == (401, "Unauthorized")
            status, body, _ = await kong.ask("/shop", headers={"apikey": "key-of-bob"})
            assert (status, body["message"]) == (403, "You cannot consume this service")
            status, body, _ = await kong.ask("/shop?apikey=key-of-ann&page=2")
            assert (status, body["path"]) == (200, "/?page=2")
            assert body["headers"]["x-consumer-username"] == "ann"

    tell(story)


def test_rate_limiting_counts_and_refuses(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            await kong.post("/routes/shop/plugins", name="rate-limiting", config={"year": 3})
            answers = [await kong.ask("/shop") for _ in range(4)]
            assert [status for status, _, _ in answers] == [200, 200, 200, 429]
            assert [headers["RateLimit-Remaining"] for _, _, headers in answers] == ["2", "1", "0", "0"]
            assert answers[3][1]["message"] == "API rate limit exceeded"

    tell(story)


@pytest.mark.parametrize(
    ("plugin", "config", "status"),
    [
        ("request-termination", {"status_code": 410, "message": "gone"}, 410),
        ("ip-restriction", {"deny": ["127.0.0.0/8"]}, 403),
        ("ip-restriction", {"allow": ["127.0.0.1"]}, 200),
        ("ip-restriction", {"allow": ["10.0.0.0/8"]}, 403),
        ("request-size-limiting", {"allowed_payload_size": 3, "size_unit": "bytes"}, 413),
        ("basic-auth", {}, 401),
    ],
)
def test_a_plugin_may_answer_in_place_of_the_service(
    tell: Tell, plugin: str, config: dict[str, Any], status: int
) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            await kong.post("/plugins", name=plugin, config=config)
            assert (await kong.ask("/shop", method="POST", data="four"))[0] == status

    tell(story)


def test_headers_are_changed_on_the_way_in_and_out(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            change = {
                "remove": {"headers": ["x-secret"], "querystring": ["debug"]},
                "add": {"headers": ["x-region:uk"]},
            }
            await kong.post("/services/shop/plugins", name="request-transformer", config=change)
            change = {"add": {"headers": ["x-shop:1"]}, "remove": {"headers": ["content-type"]}}
            await kong.post("/services/shop/plugins", name="response-transformer", config=change)
            _, got, headers = await kong.ask("/shop?debug=1&page=2", headers={"X-Secret": "s"})
            assert got["path"] == "/?page=2"
            assert got["headers"]["x-region"] == "uk"
            assert "x-secret" not in got["headers"]
            assert headers["x-shop"] == "1"

    tell(story)


def test_cors_answers_preflights_and_marks_answers(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            config = {"origins": ["https://a.example"], "methods": ["GET", "PUT"], "credentials": True}
            await kong.post("/routes/shop/plugins", name="cors", config=config)
            asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
            status, _, headers = await kong.ask("/shop", method="OPTIONS", headers=asked)
            assert (status, headers["Access-Control-Allow-Methods"]) == (200, "GET,PUT")
            assert shop.asked == 0
            _, _, headers = await kong.ask("/shop", headers={"Origin": "https://a.example"})
            assert headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert headers["Access-Control-Allow-Credentials"] == "true"

    tell(story)


DOCUMENT = """
_format_version: "3.0"
services:
- {name: shop, url: "http://127.0.0.1:1/api", routes: [{name: shop, paths: [/shop]}]}
consumers:
- {username: ann, keyauth_credentials: [{key: k}], basicauth_credentials: [{username: ann, password: p}]}
"""


def test_a_restart_keeps_the_document_of_dbless_mode(tmp_path: Path) -> None:
    with StandIn(tmp_path) as gateway:
        assert requests.post(f"{gateway.admin_url}/config", json={"config": DOCUMENT}, timeout=10).status_code == 201
        before = state(gateway)
    with StandIn(tmp_path) as gateway:
        assert state(gateway) == before
        again = requests.post(
            f"{gateway.admin_url}/config", params={"check_hash": 1}, json={"config": DOCUMENT}, timeout=10
        )
        assert again.status_code == 304
        assert requests.get(f"{gateway.proxy_url}/shop", timeout=10).status_code == 502


def test_passwords_are_hashed_unless_the_document_says_that_they_are(tmp_path: Path) -> None:
    with StandIn(tmp_path) as gateway:
        passwords = []
        for header in ("", "_transform: true\n", "_transform: false\n"):
            requests.post(f"{gateway.admin_url}/config", json={"config": header + DOCUMENT}, timeout=10)
            (login,) = requests.get(f"{gateway.admin_url}/basic-auths", timeout=10).json()["data"]
            passwords.append(login["password"])
    hashed = hashlib.sha1(f"p{login['consumer']['id']}".encode()).hexdigest()
    assert passwords == [hashed, hashed, "p"]


def test_a_document_of_a_thousand_services_is_taken_and_one_above_ten_megabytes_refused(tmp_path: Path) -> None:
    tags = ["a tag of some length as ours have so that the document is large"] * 15
    services = [{"name": f"s{n}", "host": "h", "routes": [{"paths": [f"/{n}"]}], "tags": tags} for n in range(1000)]
    document = json.dumps({"_format_version": "3.0", "services": services})
    assert len(document) > 1_000_000
    with StandIn(tmp_path) as gateway:
        post = functools.partial(requests.post, f"{gateway.admin_url}/config", timeout=60)
        assert post(json={"config": document}).status_code == 201
        assert len(requests.get(f"{gateway.admin_url}/services?size=1000", timeout=10).json()["data"]) == 1000
        assert post(json={"config": document + " " * 10_000_000}).status_code == 413


def test_a_restart_keeps_the_database(tmp_path: Path) -> None:
    with StandIn(tmp_path, database="postgres") as gateway:
        service = {"name": "shop", "url": "http://127.0.0.1:1/api"}
        assert requests.post(f"{gateway.admin_url}/services", json=service, timeout=10).status_code == 201
        assert requests.post(f"{gateway.admin_url}/services", json=service, timeout=10).status_code == 409
        before = state(gateway)
    with StandIn(tmp_path, database="postgres") as gateway:
        assert state(gateway) == before
        assert requests.post(f"{gateway.admin_url}/services", json=service, timeout=10).status_code == 409


def state(gateway: StandIn) -> list[Any]:
    paths = ("services", "routes", "consumers", "key-auths", "basic-auths")
    return [requests.get(f"{gateway.admin_url}/{path}", timeout=10).json() for path in paths]


def test_what_the_document_says_wrongly_is_told_at_its_place(tmp_path: Path) -> None:
    document = """
_format_version: "3.0"
services:
- {name: good, host: h}
- {name: bad, host: h, port: many, routes: [{name: r, paths: [/r]}, {name: s, paths: [s]}]}
upstreams: [{name: u, targets: [{target: "t:80", weight: 70000}]}]
plugins: [{name: no-such}]
routes: [{paths: [/x], service: nobody}]
"""
    with StandIn(tmp_path) as gateway:
        answer = requests.post(f"{gateway.admin_url}/config", json={"config": document}, timeout=10)
    assert answer.status_code == 400
    fields = answer.json()["fields"]
    assert fields["services"][0] is None
    assert fields["services"][1]["port"] == "expected an integer"
    assert fields["services"][1]["routes"][1]["paths"] == ["should start with: / (fixed path) or ~/ (regex path)"]
    assert fields["upstreams"][0]["targets"][0]["weight"] == "value should be between 0 and 65535"
    assert "not enabled" in fields["plugins"][0]["name"]
    assert fields["routes"] == [["invalid reference 'service: nobody' (no such entry in 'services')"]]


def test_every_plugin_of_kong_takes_its_own_answer_back(tmp_path: Path) -> None:
    needed: dict[str, dict[str, Any]] = {
        "acl": {"allow": ["a"]},
        "ip-restriction": {"allow": ["10.0.0.0/8"]},
        "rate-limiting": {"minute": 1, "redis_host": "redis"},
    }
    with StandIn(tmp_path, database="postgres") as gateway:
        plugins = requests.get(f"{gateway.admin_url}/", timeout=10).json()["plugins"]["available_on_server"]
        assert len(plugins) == 45
        for plugin in plugins:
            first = requests.post(
                f"{gateway.admin_url}/plugins", json={"name": plugin, "config": needed.get(plugin, {})}, timeout=10
            )
            if first.status_code == 400:  # it has fields without a default
                assert "required field missing" in first.text or "must be non-empty" in first.text, first.text
                continue
            made = first.json()
            again = requests.put(f"{gateway.admin_url}/plugins/{made['id']}", json=made, timeout=10)
            assert again.status_code == 200, again.text
            assert again.json()["config"] == made["config"]


def asked_raw(url: str, *requests_: bytes) -> bytes:
    """What comes back on one connection, to the end."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for request in requests_:
            connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [LAST % b"nowhere", b"no HTTP at all\r\n\r\n", b"POST /config HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"],
    ids=["well", "no HTTP", "no length"],
)
def test_every_answer_says_that_it_is_not_of_kong(tmp_path: Path, request_: bytes) -> None:
    with StandIn(tmp_path) as gateway:
        for url in (gateway.admin_url, gateway.proxy_url):
            answer = asked_raw(url, request_)
            assert answer.startswith(b"HTTP/1.")
            assert answer.count(b"\r\nServer: gitops-mvd-lab-gateway (stand-in, not Kong)\r\n") == 1, answer


def test_neither_what_a_service_says_of_itself_nor_a_refusal_hides_that(tell: Tell, tmp_path: Path) -> None:
    async def story(kong: Kong) -> None:
        async with Backend("shop") as shop:
            await kong.publish("shop", shop.address, route={"paths": ["/shop"]})
            _, _, headers = await kong.ask("/shop")
            assert "not Kong" in headers["Server"]

    tell(story)
    with StandIn(tmp_path) as gateway:
        too_large = requests.post(f"{gateway.admin_url}/config", data=b" " * 11_000_000, timeout=10)
        assert (too_large.status_code, "not Kong" in too_large.headers["Server"]) == (413, True)


def test_a_connection_is_kept_on_both_sides(tell: Tell) -> None:
    async def story(kong: Kong) -> None:
        async with Wayward(3, hang_up) as service:
            await kong.publish("shop", service.address, route={"paths": ["/shop"]})
            answer = await asyncio.to_thread(
                asked_raw, kong._gateway.proxy_url, GET % b"shop", GET % b"shop", LAST % b"shop"
            )
            assert (answer.count(b"HTTP/1.1 200 OK"), service.connections) == (3, 1)

    tell(story)


@pytest.mark.parametrize("mode", ["off", "postgres"])
def test_what_is_inert_is_told_when_it_starts_and_once_when_it_is_configured(tmp_path: Path, mode: str) -> None:
    said: list[str] = []
    names = ("key-auth", "zipkin", "zipkin", "bot-detection")
    plugins = [{"name": name, "instance_name": f"i{n}"} for n, name in enumerate(names)]
    with StandIn(tmp_path, mode, say=said.append) as gateway:
        if mode == "off":
            services = [{"name": f"s{n}", "host": "h", "plugins": [one]} for n, one in enumerate(plugins)]
            document = json.dumps({"_format_version": "3.0", "services": services})
            requests.post(f"{gateway.admin_url}/config", json={"config": document}, timeout=10).raise_for_status()
        for n, plugin in enumerate(plugins if mode == "postgres" else ()):
            requests.put(f"{gateway.admin_url}/services/s{n}", json={"host": "h"}, timeout=10).raise_for_status()
            path = f"{gateway.admin_url}/services/s{n}/plugins"
            requests.post(path, json=plugin, timeout=10).raise_for_status()
        requests.get(gateway.admin_url, timeout=10)
    assert said[0].startswith("THIS IS NOT KONG")
    assert sorted(line.split()[3] for line in said[1:]) == ["bot-detection", "zipkin"]
    said.clear()
    with StandIn(tmp_path, mode, say=said.append):
        assert said[0].startswith("THIS IS NOT KONG")
        assert len(said) == 3


def test_the_command_says_aloud_that_it_is_not_kong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.lab.kong_standin", "--database", "postgres", "--prefix", str(tmp_path)]
    command += ["--admin", "127.0.0.1:0", "--proxy", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("proxy "):
                break
        process.terminate()
        assert process.wait(10) == 0
    assert said[0].startswith("THIS IS NOT KONG")
    assert any("zipkin" in line for line in said)


# ---- several workers -------------------------------------------------------------------------------------------------


class Behind(socketserver.StreamRequestHandler):
    """An app that answers whatever it is asked, and leaves it to the other side to close the connection."""

    def handle(self) -> None:
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class App(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def app() -> Iterator[str]:
    """The address of such an app."""
    with App(("127.0.0.1", 0), Behind) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield "127.0.0.1:{1}".format(*server.server_address)
        server.shutdown()


def publish(gateway: StandIn, address: str) -> None:
    for path, fields in {
        "/upstreams": {"name": "shop"},
        "/upstreams/shop/targets": {"target": address},
        "/services": {"name": "shop", "host": "shop"},
        "/services/shop/routes": {"name": "shop", "paths": ["/shop"]},
    }.items():
        assert requests.post(gateway.admin_url + path, json=fields, timeout=10).status_code == 201


def health(gateway: StandIn) -> list[str | None]:
    """The health of the one target, as two workers see it: each new connection belongs to the next."""
    told = [requests.get(f"{gateway.admin_url}/upstreams/shop/health", timeout=10).json()["data"] for _ in range(2)]
    return sorted((row.get("health") for (row,) in told), key=str)


def test_a_route_holds_for_each_worker_once_that_has_looked(tmp_path: Path, app: str) -> None:
    with StandIn(tmp_path, "postgres", frequency=1.0) as gateway:
        url = f"{gateway.proxy_url}/shop"
        publish(gateway, app)
        told = [requests.get(url, timeout=10).status_code]
        while told[-2:] != [200, 200]:
            told.append(requests.get(url, timeout=10).status_code)
            assert len(told) < 2000
        assert told[0] == 404
        known = [turn for turn in range(len(told)) if told[turn] == 200]
        assert any(told[turn + 1 : turn + 2] == [404] for turn in known), "one worker was behind the other"


def test_a_worker_has_a_balancer_from_its_first_request_on(tmp_path: Path, app: str) -> None:
    with StandIn(tmp_path, "postgres") as gateway, requests.Session() as one_connection:
        publish(gateway, app)
        assert health(gateway) == [None, None]
        plugin = {"name": "key-auth", "route": {"name": "shop"}}
        id = requests.post(f"{gateway.admin_url}/plugins", json=plugin, timeout=10).json()["id"]
        assert [requests.get(f"{gateway.proxy_url}/shop", timeout=10).status_code for _ in range(2)] == [401, 401]
        assert health(gateway) == [None, None], "nothing was balanced"
        requests.delete(f"{gateway.admin_url}/plugins/{id}", timeout=10)
        for _ in range(3):
            assert one_connection.get(f"{gateway.proxy_url}/shop", timeout=10).status_code == 200
        assert health(gateway) == ["HEALTHCHECKS_OFF", None]
        assert requests.get(f"{gateway.proxy_url}/shop", timeout=10).status_code == 200
        assert health(gateway) == ["HEALTHCHECKS_OFF", "HEALTHCHECKS_OFF"]
        requests.delete(f"{gateway.admin_url}/upstreams/shop/targets/{app}", timeout=10)
        added = {"target": "127.0.0.1:1"}
        requests.post(f"{gateway.admin_url}/upstreams/shop/targets", json=added, timeout=10)
        assert "DNS_ERROR" in health(gateway), "a balancer is behind for a moment"
        time.sleep(TARGETS_USED_WITHIN_SECONDS)
        assert health(gateway) == ["HEALTHCHECKS_OFF", "HEALTHCHECKS_OFF"]


def test_an_open_request_is_counted_beside_the_workers_own(tmp_path: Path) -> None:
    def writing(gateway: StandIn) -> int:
        return int(requests.get(f"{gateway.admin_url}/status", timeout=10).json()["server"]["connections_writing"])

    with StandIn(tmp_path, "postgres") as gateway, socket.create_server(("127.0.0.1", 0)) as silent:
        publish(gateway, "127.0.0.1:{1}".format(*silent.getsockname()))
        workers = requests.get(gateway.admin_url, timeout=10).json()["pids"]["workers"]
        idle = writing(gateway)
        assert idle == 1 + len(workers), "as recorded of a real one with two workers"
        with socket.create_connection(gateway.proxy_url.removeprefix("http://").split(":")) as client:
            client.sendall(b"GET /shop HTTP/1.1\r\nHost: x\r\n\r\n")
            connection, _ = silent.accept()
            assert connection.recv(4096).startswith(b"GET /")
            assert writing(gateway) == idle + 1
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            assert writing(gateway) == idle
            connection.settimeout(0.3)
            with connection, pytest.raises(TimeoutError):  # it is kept for the next request
                connection.recv(1)
