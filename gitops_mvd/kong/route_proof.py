"""Asking through the gateway whether a route leads to us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Health, Json
from gitops_mvd.kong import transport
from gitops_mvd.kong.transport import Certificates, Silent, Wire, is_loopback

DEADLINE = 3.0
LONGEST = 4096  # bytes; what Kong itself says is shorter
SAFE = ("GET", "OPTIONS")  # asking must change nothing in the app; an answer to HEAD has no message
NO_ROUTE = "no Route matched"
AS_IT_IS = "/%:@!$&'()*+,;=~"  # what is not encoded of a route's path
UNSERVED = {502, 503, 504}


class Answer(NamedTuple):
    """What the gateway said: whether it leads to us, why not, whether it named the service, and asked an instance."""

    health: Health
    why: str = ""
    named: bool = False
    reached: bool = False


def request_for(routes: Iterable[Json]) -> dict[str, Any] | None:
    """Method, path and headers that match one of these routes; None where none can be asked for by plain HTTP."""
    for route in routes:
        method = next((method for method in SAFE if method in (route.get("methods") or SAFE)), None)
        path = next((path for path in route.get("paths") or ["/"] if not path.startswith("~")), None)
        headers = {name: values[0] for name, values in (route.get("headers") or {}).items() if values}
        is_http = {"http", "https"} & set(route.get("protocols") or ["http"])
        is_plain = not any(value.startswith("~*") for value in headers.values())
        if method and path and is_plain and is_http and not route.get("expression"):
            if hosts := route.get("hosts"):
                headers["Host"] = hosts[0].replace("*.", "mvd.").replace(".*", ".example")
            return {"method": method, "path": quote(path, safe=AS_IT_IS), "headers": headers}
    return None


def through(
    proxy_url: str, request: Mapping[str, Any], service: str, certificates: Certificates | None = None
) -> Answer:
    """Whether the gateway leads `request` to `service`.  One try.

    An answer of the app or of an auth plugin, whatever its status, proves the route.

    Over TLS, the name of the route's host is asked for, as it decides which certificate Kong shows.  On this machine it
    may be any certificate, since Kong makes one for itself where it was given none, and nothing secret is sent.
    """
    headers = {"Accept": "application/json", "Kong-Debug": "1", **request["headers"]}
    where = f"{request['method']} {request['path']}"
    trust = None if is_loopback(proxy_url) else certificates or Certificates()
    try:
        line = Wire(proxy_url, "the gateway", trust, server=headers.get("Host", "").partition(":")[0])
        answer = line.ask(
            request["method"], request["path"], headers, within=DEADLINE, most=LONGEST, of={404, *UNSERVED}
        )
    except Silent:
        return Answer(Health.PROGRESSING, f"{where} through the gateway does not answer within {DEADLINE:g} s")
    except Unavailable as error:
        return Answer(Health.UNKNOWN, str(error))
    named = answer.headers.get("Kong-Service-Name", "")
    reached = "X-Kong-Upstream-Latency" in answer.headers
    says = _message(answer)
    if answer.status == 404 and says.startswith(NO_ROUTE):
        return Answer(Health.PROGRESSING, f"the gateway has no route for {where} yet")
    if answer.status in UNSERVED and says:
        return Answer(Health.PROGRESSING, f"the gateway answers {where} with {answer.status}: {says}", bool(named))
    if named and named != service:
        return Answer(Health.PROGRESSING, f"the gateway leads {where} to {named}", True)
    return Answer(Health.HEALTHY, "", bool(named), reached)


def _message(answer: transport.Answer) -> str:
    """The message of an error that Kong itself made; "" where the app answered."""
    try:
        body = answer.json()
    except ValueError:
        return ""
    is_kongs = isinstance(body, dict) and body.keys() <= {"message", "request_id"}
    return str(body.get("message", "")) if is_kongs else ""
