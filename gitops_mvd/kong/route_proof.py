"""A request through Kong that proves where a route leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict, cast
from urllib.parse import quote

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Health
from gitops_mvd.kong.entities import Fields
from gitops_mvd.kong.transport import Answer, Certificates, TimedOut, Transport, is_loopback

TIMEOUT_SECONDS = 3.0
MAX_CONTENT_BYTES = 4096  # Kong's own messages are shorter
SAFE_METHODS = ("GET", "OPTIONS")  # they change nothing in the app; HEAD does not either, but brings no message
NO_ROUTE_MESSAGE = "no Route matched"
NOT_ENCODED = "/%:@!$&'()*+,;=~"  # in a route's path
UPSTREAM_ERRORS = {502, 503, 504}


class RouteAnswer(NamedTuple):
    """Whether a route leads to the service, and why not.

    `is_named`: Kong named the service in its answer.  `is_from_instance`: an instance answered, and not Kong itself.
    """

    health: Health
    why: str = ""
    is_named: bool = False
    is_from_instance: bool = False


class Request(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]


class Matchers(TypedDict, total=False):
    """What a route matches, of its fields."""

    methods: Sequence[str] | None
    paths: Sequence[str] | None
    hosts: Sequence[str] | None
    headers: Mapping[str, Sequence[str]] | None
    protocols: Sequence[str] | None
    expression: str | None


def request_for(routes: Iterable[Fields]) -> Request | None:
    """A request that matches one of these routes; None if none of them can be reached by plain HTTP."""
    for fields in routes:
        route = cast(Matchers, fields)
        method = next((method for method in SAFE_METHODS if method in (route.get("methods") or SAFE_METHODS)), None)
        path = next((path for path in route.get("paths") or ["/"] if not path.startswith("~")), None)
        headers = {name: values[0] for name, values in (route.get("headers") or {}).items() if values}
        is_http = {"http", "https"} & set(route.get("protocols") or ["http"])
        is_plain = not any(value.startswith("~*") for value in headers.values())
        if method and path and is_plain and is_http and not route.get("expression"):
            if hosts := route.get("hosts"):
                headers["Host"] = hosts[0].replace("*.", "mvd.").replace(".*", ".example")
            return Request(method, quote(path, safe=NOT_ENCODED), headers)
    return None


def certificates_for(proxy_url: str, certificates: Certificates | None) -> Certificates | None:
    """The certificates that a request to Kong's proxy must check; None on this machine.

    There Kong may show the one that it made for itself, and nothing secret is sent.
    """
    return None if is_loopback(proxy_url) else certificates or Certificates()


def send(proxy_url: str, request: Request, service: str, certificates: Certificates | None) -> RouteAnswer:
    """Whether Kong, which serves at `proxy_url`, sends the request to `service`.  One try.

    An answer of the app or of an auth plugin, whatever its status, proves the route.  Over TLS, the server name is the
    route's host, by which Kong chooses its certificate; without `certificates`, any certificate is accepted.
    """
    headers = {"Accept": "application/json", "Kong-Debug": "1", **request.headers}
    shown = f"{request.method} {request.path}"
    try:
        transport = Transport(proxy_url, "Kong", certificates, server=headers.get("Host", "").partition(":")[0])
        answer = transport.request(
            request.method,
            request.path,
            headers,
            within=TIMEOUT_SECONDS,
            max_bytes=MAX_CONTENT_BYTES,
            content_of={404, *UPSTREAM_ERRORS},
        )
    except TimedOut:
        return RouteAnswer(Health.PROGRESSING, f"{shown} through Kong has no answer within {TIMEOUT_SECONDS:g} s")
    except Unavailable as error:
        return RouteAnswer(Health.UNKNOWN, str(error))
    name = answer.headers.get("Kong-Service-Name", "")
    message = _message_by_kong(answer)
    if answer.status == 404 and message.startswith(NO_ROUTE_MESSAGE):
        return RouteAnswer(Health.PROGRESSING, f"Kong has no route for {shown} yet")
    if answer.status in UPSTREAM_ERRORS and message:
        return RouteAnswer(Health.PROGRESSING, f"Kong answers {shown} with {answer.status}: {message}", bool(name))
    if name and name != service:
        return RouteAnswer(Health.PROGRESSING, f"Kong routes {shown} to {name}", True)
    return RouteAnswer(Health.HEALTHY, "", bool(name), "X-Kong-Upstream-Latency" in answer.headers)


def _message_by_kong(answer: Answer) -> str:
    """The message of an error that Kong itself made; "" if the app answered."""
    body = answer.body or {}
    return str(body.get("message", "")) if body.keys() <= {"message", "request_id"} else ""
