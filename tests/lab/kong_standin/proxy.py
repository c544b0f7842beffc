"""The data path: a request comes in, takes a route, passes the policies, and is carried to a target and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterable

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.lab.kong_standin.access_log import CLIENT_GONE, Told
from tests.lab.kong_standin.checks import escaped_path, is_ip, normal_path
from tests.lab.kong_standin.health import Health, address_of
from tests.lab.kong_standin.policies import POLICIES, Exchange, Reply, config_of
from tests.lab.kong_standin.routing import upstream_path
from tests.lab.kong_standin.rules import Record
from tests.lab.kong_standin.store import Store
from tests.lab.kong_standin.workers import Worker

SERVER = "gitops-mvd-lab-gateway (stand-in, not Kong)"
# Meant for one connection only (RFC 9110, section 7.6.1).
HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade"),
}
NO_ROUTE = "no Route matched with those values"
NO_PEER = "failure to get a peer from the ring-balancer"
NO_NAME = "name resolution failed"
BAD_ANSWER = "An invalid response was received from the upstream server"
TIMED_OUT = "The upstream server is timing out"

# What nginx may send to the next target, after the last gave no answer (proxy_next_upstream, Kong's is the default).
ASKED_ONCE = {"POST", "LOCK", "PATCH"}
NOT_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
NOT_ANSWERED = (aiohttp.ClientConnectionError, TimeoutError)


class Proxy:
    """Carries requests, each by one of the workers.  If `is_current`, a change holds from the next request on."""

    def __init__(self, store: Store, health: Health, *, is_current: bool) -> None:
        self._store = store
        self._health = health
        self._is_current = is_current
        self._usage: dict[tuple[str, ...], int] = {}

    async def handle(self, request: web.BaseRequest, worker: Worker) -> web.StreamResponse:
        """One request of a client."""
        worker.open_requests += 1
        try:
            return await self._handle(request, worker)
        finally:
            worker.open_requests -= 1

    async def _handle(self, request: web.BaseRequest, worker: Worker) -> web.StreamResponse:
        view = worker.view(is_current=self._is_current)
        id = uuid.uuid4().hex
        raw, _, query = request.raw_path.partition("?")
        path = normal_path(raw)
        match = view.match(request.method, request.host, path, request.headers) if _is_text(path) else None
        if match is None:
            return _answer(request, Reply(404, NO_ROUTE), id)
        headers = _forwarded_headers(request, match.matched if match.route["strip_path"] else "")
        headers["X-Kong-Request-Id"] = id
        exchange = Exchange(request, view, match, self._usage, headers, query, id)
        told, response = Told(exchange), None
        try:
            response = await self._answered(exchange, worker, path, told)
            return response
        finally:
            status, headers = (response.status, response.headers) if response else (CLIENT_GONE, CIMultiDict())
            told.end(status, {name.lower(): value for name, value in headers.items()}, 0)

    async def _answered(self, exchange: Exchange, worker: Worker, path: str, told: Told) -> web.StreamResponse:
        match = exchange.match
        try:
            _check_protocol(match.route)
            for policy in POLICIES:
                config = config_of(policy, exchange) if policy.access else None
                if policy.access and config is not None:
                    policy.access(exchange, config)
            if match.service is None:
                raise Reply(503, "no Service found with those values")
            return await self._forward(exchange, worker, match.service, path, told)
        except Reply as reply:
            return _answer(exchange.request, reply, exchange.id, exchange)

    async def _forward(
        self, exchange: Exchange, worker: Worker, service: Record, path: str, told: Told
    ) -> web.StreamResponse:
        """Ask targets until one answers, as often as the service says, and only where nginx would ask another one.

        Who was not reached never saw the request.  Who hung up or fell silent before an answer may have acted on it,
        so the next one gets only what may be asked twice.  Once an answer has begun, nobody else is asked.
        """
        request = exchange.request
        buffered = exchange.match.route["request_buffering"]
        body = (await request.read() if buffered else request.content) if request.body_exists else None
        repeatable = request.method not in ASKED_ONCE and (buffered or body is None)
        upstream = self._store.by("upstreams", name=service["host"])
        path = escaped_path(upstream_path(service["path"], exchange.match.route, path, exchange.match.matched))
        failure = Reply(503, NO_PEER)
        for _ in range(service["retries"] + 1):
            target = worker.pick(upstream) if upstream else None
            if upstream and not target:
                break
            address = address_of(target) if target else (service["host"], service["port"])
            told.tries(*address)
            try:
                answer = await self._carry(exchange, worker.session, service, address, path, body, told)
                if target:
                    self._health.answered(target)
                return answer
            except (aiohttp.ClientError, TimeoutError) as error:
                failure = _failure(error)
                told.failed(failure.status)
                if upstream and target:
                    self._health.failed(upstream, target, "timeouts" if failure.status == 504 else "tcp_failures")
                if not isinstance(error, NOT_REACHED) and not (repeatable and isinstance(error, NOT_ANSWERED)):
                    break
        raise failure

    async def _carry(
        self,
        exchange: Exchange,
        session: aiohttp.ClientSession,
        service: Record,
        address: tuple[str, int],
        path: str,
        body: bytes | aiohttp.StreamReader | None,
        told: Told,
    ) -> web.StreamResponse:
        url = _url(service, address, path, exchange.query)
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=service["connect_timeout"] / 1000,
            sock_read=service["read_timeout"] / 1000,
        )
        if exchange.request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._carry_websocket(exchange, session, url, timeout)
        began = time.monotonic()
        async with session.request(
            exchange.request.method,
            url,
            headers=exchange.headers,
            data=body,
            allow_redirects=False,
            timeout=timeout,
        ) as answer:
            latency = int((time.monotonic() - began) * 1000)
            told.answered(answer.status, latency)
            return await _pass_on(exchange, answer, latency)

    async def _carry_websocket(
        self, exchange: Exchange, session: aiohttp.ClientSession, url: URL, timeout: aiohttp.ClientTimeout
    ) -> web.StreamResponse:
        request = exchange.request
        asked = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [word.strip() for word in asked.split(",") if word.strip()]
        headers = CIMultiDict(
            (name, value) for name, value in exchange.headers.items() if not name.lower().startswith("sec-websocket-")
        )
        async with session.ws_connect(
            url, headers=headers, protocols=protocols, autoping=False, max_msg_size=0
        ) as there:
            here = web.WebSocketResponse(
                protocols=[there.protocol] if there.protocol else [], autoping=False, max_msg_size=0
            )
            _set_headers(here, exchange, [("X-Kong-Request-Id", exchange.id)])
            await here.prepare(request)
            pumps = [asyncio.ensure_future(_pump(here, there)), asyncio.ensure_future(_pump(there, here))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
            code = next((end for end in ends if isinstance(end, int)), None)
            if code is None:  # a side is gone without a word, and so are we
                _break_off(request)
            elif not here.closed:
                await here.close(code=code)
            return here


class _Response(web.StreamResponse):
    _send_headers_immediately = False  # but in one packet with the first of the body, as nginx does


async def _pass_on(exchange: Exchange, answer: aiohttp.ClientResponse, latency: int) -> web.StreamResponse:
    """Give an answer to the client; where it breaks, it breaks for the client, too."""
    response = _Response(status=answer.status, reason=answer.reason)
    own = [("X-Kong-Upstream-Latency", str(latency)), ("X-Kong-Request-Id", exchange.id)]
    _set_headers(response, exchange, [*_end_to_end(answer.headers.items()), *own])
    try:
        await response.prepare(exchange.request)
        async for part in answer.content.iter_any():
            await response.write(part)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError):
        with contextlib.suppress(ConnectionError):
            await response.write(b"")  # the head, where not even that was sent: without one, clients ask again
        _break_off(exchange.request)
    return response


def _break_off(request: web.BaseRequest) -> None:
    """Close the connection of a client in the middle of what it gets, which is how it learns that there is no more."""
    if request.transport:
        request.transport.close()


def _failure(error: Exception) -> Reply:
    """What is answered where no target gave an answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Reply(503, NO_NAME)
    return Reply(504, TIMED_OUT) if isinstance(error, TimeoutError) else Reply(502, BAD_ANSWER)


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: WebSocket, sink: WebSocket) -> int | None:
    """Pass messages on in one direction until an end closes: the code it gave, None where it is gone without one."""
    while True:
        message = await source.receive()
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            case aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case aiohttp.WSMsgType.PING:
                await sink.ping(message.data)
            case aiohttp.WSMsgType.PONG:
                await sink.pong(message.data)
            case aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            case _:
                return None


def _url(service: Record, address: tuple[str, int], path: str, query: str) -> URL:
    host, port = address
    scheme = "https" if service["protocol"] in ("https", "grpcs") else "http"
    name = f"[{host}]" if is_ip(host) and ":" in host else host
    return URL(f"{scheme}://{name}:{port}{path}" + (f"?{query}" if query else ""), encoded=True)


def _check_protocol(route: Record) -> None:
    """This listener speaks plain HTTP; a route may want another protocol."""
    if "http" in route["protocols"]:
        return
    if "https" in route["protocols"]:
        raise Reply(
            route["https_redirect_status_code"],
            "Please use HTTPS protocol",
            [("Connection", "Upgrade"), ("Upgrade", "TLS/1.2, HTTP/1.1")],
        )
    raise Reply(415, "Non-gRPC request matched gRPC route")


def _forwarded_headers(request: web.BaseRequest, stripped: str) -> CIMultiDict[str]:
    """The client's own headers, and who asked for what, as proxies tell it."""
    headers = CIMultiDict(_end_to_end(request.headers.items()))
    client = request.remote or ""
    name, _, port = request.host.rpartition(":")
    headers["X-Forwarded-For"] = ", ".join([*request.headers.getall("X-Forwarded-For", []), client])
    headers["X-Forwarded-Proto"] = "http"
    headers["X-Forwarded-Host"] = name or request.host
    headers["X-Forwarded-Port"] = port if name else "80"
    headers["X-Forwarded-Path"] = request.raw_path.partition("?")[0]
    if stripped:
        headers["X-Forwarded-Prefix"] = stripped
    headers["X-Real-IP"] = client
    return headers


def _is_text(path: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in path)


def _end_to_end(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]


def _set_headers(response: web.StreamResponse, exchange: Exchange, headers: list[tuple[str, str]]) -> None:
    """The headers of an answer, after the policies had their say."""
    final = CIMultiDict([*headers, *exchange.answer_headers])
    for policy in POLICIES:
        config = config_of(policy, exchange) if policy.answer else None
        if policy.answer and config is not None:
            policy.answer(exchange, config, final)
    final.popall("Server", None)
    response.headers.extend(final)


def _answer(request: web.BaseRequest, reply: Reply, id: str, exchange: Exchange | None = None) -> web.StreamResponse:
    """An answer of the gateway's own."""
    body, headers = reply.body, list(reply.headers)
    if reply.message is not None:
        body = json.dumps({"message": reply.message, "request_id": id}).encode()
        headers.append(("Content-Type", "application/json; charset=utf-8"))
    response = web.Response(status=reply.status, body=body)
    response.headers.popall("Content-Type", None)
    headers.append(("X-Kong-Request-Id", id))
    if exchange:
        _set_headers(response, exchange, headers)
    else:
        response.headers.extend(headers)
    return response
