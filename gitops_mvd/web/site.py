"""The addresses of the page, put together: each has its HTML, its JSON, and a stream of what changes.

Which of the three it is, is told by the end of the path and by the Accept header.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gitops_mvd.api.client import Refused
from gitops_mvd.api.questions import Wrong, find_endpoint
from gitops_mvd.api.views import DoneView, ErrorView
from gitops_mvd.config.settings.web import WebSettings
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.web import passed
from gitops_mvd.web.drawn import PART, SPANS, WHOLE, Templates
from gitops_mvd.web.fleet import Fleet
from gitops_mvd.web.frame import Endless, Frame, body_of, form_of, html_answer, json_answer
from gitops_mvd.web.guard import Denied, Guard, Visitor, own_path
from gitops_mvd.web.host import Host
from gitops_mvd.web.live import Crowd, Draw, Screens, Stream, TooMany
from gitops_mvd.web.logs import Followers
from gitops_mvd.web.pages import COSTLY, PAGES, STILL, Asked, NotThere, Page, Show, json_path, logs, name_of_log
from gitops_mvd.web.signal import Signal

log = logging.getLogger(__name__)

LONGEST_QUERY = 200  # characters of what is searched for
MOST_NOTICES = 100  # that wait to be shown
REST_SECONDS = 30.0
EVENTS = "text/event-stream"
STATUS = {"nothing.html": 404, "silent.html": 503}
Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Notice:
    """What came of a button that was pressed, shown once."""

    text: str
    hint: str = ""
    is_bad: bool = False


class Site:
    """One page of one or several servers."""

    def __init__(self, settings: WebSettings, guard: Guard, fleet: Fleet) -> None:
        self._settings = settings
        self._guard = guard
        self._fleet = fleet
        self._prefix = urlsplit(settings.url).path.rstrip("/")
        self._templates = Templates(self._prefix)
        self._screens = Screens()
        self._crowd = Crowd()
        self._programs = Crowd(passed.MOST_STREAMS)
        self._followers = {host.name: Followers(host) for host in fleet.hosts}
        self._notices: OrderedDict[str, Notice] = OrderedDict()
        self._mark = f"seal-{secrets.token_hex(16)}"  # stands for the seal of the visitor in what many are shown

    @cached_property
    def application(self) -> ASGIApp:
        """All of it, as ASGI has it."""
        routes = [
            Route("/static/{name}", self._templates.file),
            Route("/login", self._safely(self._log_in), methods=["GET", "POST"]),
            Route("/logout", self._safely(self._log_out), methods=["POST"]),
        ]
        if self._fleet.is_one:
            routes += self._routes("", lambda request: self._fleet.hosts[0])
        else:
            routes += [
                Route("/", self._safely(self._all_hosts)),
                Route("/index.json", self._safely(self._all_hosts_json)),
                Route("/deploys/{commit}", self._safely(self._on_all_hosts)),
            ]
            routes += self._routes("/hosts/{host}", lambda request: self._host(request.path_params["host"]))
        routes.append(Route("/{path:path}", self._safely(self._nothing)))

        @asynccontextmanager
        async def life(app: Starlette) -> AsyncIterator[None]:
            rest = asyncio.create_task(self._rest())
            async with self._fleet:
                yield
            rest.cancel()

        return Frame(
            Starlette(routes=routes, lifespan=life),
            self._guard,
            self._prefix,
            is_over_tls=self._settings.url.startswith("https://"),
        )

    def _routes(self, base: str, host: Callable[[Request], Host]) -> list[Route]:
        """The pages of a server."""
        routes = [
            Route(f"{base}/v1/{{path:path}}", self._safely(self._api(host)), methods=["GET", "POST"]),
            Route(f"{base}/sync", self._safely(self._act(host, "sync", "/")), methods=["POST"]),
            Route(f"{base}/suspend", self._safely(self._act(host, "suspend", "/")), methods=["POST"]),
            Route(f"{base}/resume", self._safely(self._act(host, "resume", "/")), methods=["POST"]),
        ]
        for verb in ("retry", "suspend", "resume"):
            act = self._safely(self._act(host, verb, "/apps/{app}"))
            routes.append(Route(f"{base}/apps/{{app}}/{verb}", act, methods=["POST"]))
        for path, show in PAGES.items():
            routes.append(Route(f"{base}{json_path(path)}", self._safely(self._json(show, host))))
            routes.append(Route(f"{base}{path}", self._safely(self._page(show, host))))
        return routes

    async def _rest(self) -> None:
        """End what nobody looks at any more."""
        while True:
            await asyncio.sleep(REST_SECONDS)
            for followers in self._followers.values():
                followers.rest()

    # ---- the pages of a server ---------------------------------------------------------------------------------------

    def _page(self, show: Show, of: Callable[[Request], Host]) -> Answer:
        async def answer(request: Request) -> Response:
            visitor, host = self._visitor(request), of(request)
            is_stream = _is_stream(request) and show not in STILL
            if is_stream or show in COSTLY:
                self._guard.check_site(request.headers)
            host.look()
            asked = self._asked(request, host)
            if is_stream:
                if show is logs:
                    name, _ = await name_of_log(asked)
                    return self._stream(asked.logs.follower(name).events(request.headers.get("last-event-id", "")))
                return self._stream(await self._changes(request, asked, show, visitor))
            page = await self._shown(show, asked)
            html = self._drawn(page, request, visitor, host).replace(self._mark, visitor.seal)
            return html_answer(html, STATUS.get(page.template, 200))

        return answer

    async def _changes(self, request: Request, asked: Asked, show: Show, visitor: Visitor) -> AsyncIterator[bytes]:
        """The page as it is drawn anew, with the seal of this visitor.  Raises NotThere and TooMany.

        What is searched for makes no page of its own: the script of the page searches.
        """
        host, whole = asked.host, replace(asked, query={})
        named = {name: it.lower() if name == "commit" else it for name, it in asked.named.items() if name != "host"}
        key = host.name, show, tuple(sorted(named.items())), visitor.why_not
        with suppress(Unavailable, Refused):  # then the page says so, until it is there
            await show(whole)

        async def draw() -> tuple[str, bool]:
            page = await self._shown(show, whole)
            return self._drawn(page, request, visitor, host, PART), page.ticks and not host.silence

        return self._followed(key, draw, host.changed, host.look, visitor)

    def _followed(
        self, key: object, draw: Draw, changed: Signal, look: Callable[[], None], visitor: Visitor
    ) -> AsyncIterator[bytes]:
        """Raises TooMany."""
        self._screens.make_room(key)
        mark, seal = self._mark.encode(), visitor.seal.encode()

        async def events() -> AsyncIterator[bytes]:
            async for picture in self._screens.screen(key, draw, changed, look).events():
                yield picture.replace(mark, seal)

        return events()

    def _json(self, show: Show, of: Callable[[Request], Host]) -> Answer:
        async def answer(request: Request) -> Response:
            self._visitor(request)
            if show in COSTLY:
                self._guard.check_site(request.headers)
            host = of(request)
            host.look()
            asked = self._asked(request, host)
            if show is logs:
                name, _ = await name_of_log(asked)
                return RedirectResponse(self._templates.at(f"/v1/logs?name={quote(name, safe='/')}", host.base))
            page = await show(asked)
            if host.silence:
                raise Unavailable(host.silence.why, host.silence.hint)
            return json_answer(page.json)

        return answer

    async def _shown(self, show: Show, asked: Asked) -> Page:
        """The page, or one that says that there is none now."""
        try:
            return await show(asked)
        except NotThere as error:
            return Page("nothing.html", "Not found", None, {"error": error, "names": error.names}, is_live=False)
        except Unavailable as error:
            return Page("silent.html", asked.host.name, None, {"status": None, "error": error}, mood="silent")

    def _drawn(self, page: Page, request: Request, visitor: Visitor, host: Host | None, layout: str = WHOLE) -> str:
        """The HTML of a page, or of the part that changes."""
        base = host.base if host else ""
        section = request.url.path.removeprefix(base).strip("/").partition("/")[0]
        return self._templates.draw(
            page,
            layout,
            host=host,
            base=base,
            hosts=[] if self._fleet.is_one else self._fleet.hosts,
            section=section,
            silence=host.silence if host else None,
            visitor=visitor,
            seal=self._mark,
            notice=self._notices.pop(request.query_params.get("notice", ""), None) if layout == WHOLE else None,
            json_path=json_path(request.url.path.removeprefix(base) or "/") if host else "/index.json",
        )

    def _asked(self, request: Request, host: Host) -> Asked:
        query = {name: value[:LONGEST_QUERY] for name, value in request.query_params.items() if name == "q"}
        return Asked(host, self._followers[host.name], dict(request.path_params), query)

    # ---- several servers ---------------------------------------------------------------------------------------------

    def _host(self, name: str) -> Host:
        if found := next((host for host in self._fleet.hosts if host.name == name), None):
            return found
        raise NotThere(f"there is no server {name}", {it.name: f"/hosts/{it.name}/" for it in self._fleet.hosts})

    async def _all_hosts(self, request: Request) -> Response:
        visitor = self._visitor(request)
        self._fleet.look()
        if _is_stream(request):
            self._guard.check_site(request.headers)

            async def draw() -> tuple[str, bool]:
                return self._drawn(await self._fleet.page(), request, visitor, None, PART), False

            return self._stream(self._followed("all hosts", draw, self._fleet.changed, self._fleet.look, visitor))
        return html_answer(
            self._drawn(await self._fleet.page(), request, visitor, None).replace(self._mark, visitor.seal)
        )

    async def _all_hosts_json(self, request: Request) -> Response:
        self._visitor(request)
        self._fleet.look()
        return json_answer((await self._fleet.page()).json)

    async def _on_all_hosts(self, request: Request) -> Response:
        visitor = self._visitor(request)
        page = await self._fleet.commit_page(request.path_params["commit"])
        return html_answer(self._drawn(page, request, visitor, None).replace(self._mark, visitor.seal))

    # ---- what acts ---------------------------------------------------------------------------------------------------

    def _act(self, of: Callable[[Request], Host], verb: str, back: str) -> Answer:
        async def answer(request: Request) -> Response:
            visitor, host, form = self._visitor(request), of(request), await self._form(request)
            self._guard.check_form(visitor, form.get("seal", ""))
            app = request.path_params.get("app", "")
            asked: dict[str, Any] = {"by": visitor.name, **({"app": app} if app else {})}
            if verb == "suspend":
                lasts = SPANS.get(form.get("lasts", ""), 0)
                until = time.time() + lasts if lasts else 0.0
                asked |= {"why": form.get("why", ""), "until": until, "stop": bool(app and form.get("stop"))}
            try:
                done = await host.act(verb, DoneView, **asked)
                notice = Notice(done.what)
                log.info("%s asked by=%s app=%s host=%s", verb, visitor.name, app or "all", host.name)
            except (Refused, Unavailable) as error:
                notice = Notice(error.message, error.hint, is_bad=True)
            path = self._templates.at(back.format(app=app), host.base)
            return RedirectResponse(f"{path}?notice={self._keep(notice)}", 303)

        return answer

    def _keep(self, notice: Notice) -> str:
        number = secrets.token_hex(8)
        self._notices[number] = notice
        while len(self._notices) > MOST_NOTICES:
            self._notices.popitem(last=False)
        return number

    def _api(self, of: Callable[[Request], Host]) -> Answer:
        """The API of a server as its daemon answers it, for programs and for the page of another server."""

        async def answer(request: Request) -> Response:
            visitor, host = self._visitor(request), of(request)
            endpoint, named = find_endpoint(request.method, f"/v1/{request.path_params['path']}")
            if endpoint.method == "GET":
                self._guard.check_site(request.headers)
                host.look()
                given = passed.parameters(endpoint, {**request.query_params, **named})
                if endpoint.is_stream:
                    return self._stream(await passed.lines(host, endpoint, given, self._programs), passed.LINES)
                return json_answer(await passed.answer(host, endpoint, given))
            self._guard.check_origin(request.headers)
            if not visitor.may_act or "json" not in request.headers.get("content-type", ""):
                raise Denied(403, visitor.why_not or "the body must be JSON")
            body = msgspec.json.decode(await body_of(request) or b"{}", type=dict[str, Any])
            given = passed.parameters(endpoint, body | {"by": _who(body, visitor)})
            return json_answer(await host.act(endpoint.name, endpoint.answer, **given))

        return answer

    # ---- who asks ----------------------------------------------------------------------------------------------------

    def _visitor(self, request: Request) -> Visitor:
        return self._guard.visitor(request.scope, request.headers)

    async def _log_in(self, request: Request) -> Response:
        then = own_path(request.query_params.get("then", "/"))
        if request.method == "GET":
            return self._login_page(request, then)
        form = await self._form(request)
        try:
            self._guard.check(form.get("token", "").strip(), request.client.host if request.client else "")
        except Denied as error:
            return self._login_page(request, then, error)
        answer = RedirectResponse(self._templates.at(then), 303)
        answer.headers["set-cookie"] = self._guard.cookie(self._guard.new_session(), self._prefix)
        return answer

    async def _log_out(self, request: Request) -> Response:
        visitor = self._visitor(request)
        self._guard.check_form(Visitor(visitor.name, seal=visitor.seal), (await self._form(request)).get("seal", ""))
        answer = RedirectResponse(self._templates.at("/login"), 303)
        answer.headers["set-cookie"] = self._guard.cookie("", self._prefix)
        return answer

    async def _form(self, request: Request) -> dict[str, str]:
        self._guard.check_origin(request.headers)
        return await form_of(request)

    def _login_page(self, request: Request, then: str, error: Denied | None = None) -> Response:
        values = {"then": then, "error": error, "has_token": self._guard.has_token}
        page = Page("login.html", "Log in", None, values, is_live=False)
        return html_answer(
            self._drawn(page, request, Visitor("", "a login is needed"), None), error.status if error else 200
        )

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def _safely(self, answer: Answer) -> Answer:
        """The same, with a page for each error; for programs, JSON."""

        async def safe(request: Request) -> Response:
            try:
                return await answer(request)
            except Denied as error:
                if error.status == 401 and self._guard.has_token and _wants_html(request):
                    then = quote(request.url.path.removeprefix(self._prefix) or "/", safe="/")
                    return RedirectResponse(self._templates.at(f"/login?then={then}"), 303)
                headers = {"retry-after": f"{error.after:.0f}"} if error.after else {}
                headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
                return self._wrong(request, error.status, error.message, error.hint, headers)
            except NotThere as error:
                return self._wrong(request, 404, error.message, names=error.names)
            except TooMany as error:
                return self._wrong(request, 503, error.message, error.hint)
            except (Refused, Wrong) as error:
                return self._wrong(request, error.status, error.message, error.hint)
            except Unavailable as error:
                return self._wrong(request, 503, error.message, error.hint)
            except (MvdError, msgspec.MsgspecError, ValueError) as error:
                return self._wrong(request, 400, str(error))
            except (TimeoutError, ClientDisconnect):
                return self._wrong(request, 408, "the request was not sent in time")
            except Exception:
                log.exception("internal error at %s", request.url.path[:200])
                return self._wrong(request, 500, "internal error", "journalctl -u gitops-mvd-web")

        return safe

    def _wrong(
        self,
        request: Request,
        status: int,
        message: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Response:
        if not _wants_html(request):
            return json_answer(ErrorView(message, hint), status, headers)
        error = Unavailable(message, hint)
        page = Page("nothing.html", message, None, {"error": error, "names": names or {}}, is_live=False)
        return html_answer(self._drawn(page, request, Visitor("", "x"), None), status, headers)

    async def _nothing(self, request: Request) -> Response:
        self._visitor(request)
        raise NotThere(f"there is no page {request.url.path[:200]}", {"The front page": "/"})

    def _stream(self, events: AsyncIterator[bytes], kind: bytes = EVENTS.encode()) -> Response:
        """Raises TooMany."""
        if self._crowd.is_full:
            raise TooMany("too many follow this page at once", "close some, and load it again")
        return Endless(Stream(events, self._crowd, kind))


def _wants_html(request: Request) -> bool:
    path = request.url.path
    return not path.endswith(".json") and "/v1/" not in path and not _is_stream(request)


def _is_stream(request: Request) -> bool:
    return EVENTS in request.headers.get("accept", "")


def _who(body: Mapping[str, Any], visitor: Visitor) -> str:
    """Who acts; what comes by the page of another server says who pressed the button there."""
    by = body.get("by")
    return f"{by} (by {visitor.name})" if by and by != visitor.name else visitor.name
