"""Asking through the gateway whether a route leads to us."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import requests
from urllib3.exceptions import HTTPError

from gitops_mvd.model import Health, Json

DEADLINE = 3.0
LONGEST = 4096  # bytes; what Kong itself says is shorter
SAFE = ("GET", "OPTIONS")  # asking must change nothing in the app; an answer to HEAD has no message
NO_ROUTE = "no Route matched"
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
            return {"method": method, "path": path, "headers": headers}
    return None


def through(proxy_url: str, request: Mapping[str, Any], service: str) -> Answer:
    """Whether the gateway leads `request` to `service`.  One try.

    An answer of the app or of an auth plugin, whatever its status, proves the route.
    """
    headers = {"Accept": "application/json", "Kong-Debug": "1", **request["headers"]}
    where = f"{request['method']} {request['path']}"
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                request["method"],
                proxy_url.rstrip("/") + request["path"],
                headers=headers,
                timeout=DEADLINE,
                allow_redirects=False,
                stream=True,
            )
            says = _message(answer) if answer.status_code in {404, *UNSERVED} else ""
            answer.close()
    except requests.Timeout:
        return Answer(Health.PROGRESSING, f"{where} through the gateway does not answer within {DEADLINE:g} s")
    except requests.RequestException:
        return Answer(Health.UNKNOWN, f"the gateway at {proxy_url} can not be reached")
    named = answer.headers.get("Kong-Service-Name", "")
    reached = "X-Kong-Upstream-Latency" in answer.headers
    if answer.status_code == 404 and says.startswith(NO_ROUTE):
        return Answer(Health.PROGRESSING, f"the gateway has no route for {where} yet")
    if answer.status_code in UNSERVED and says:
        return Answer(Health.PROGRESSING, f"the gateway answers {where} with {answer.status_code}: {says}", bool(named))
    if named and named != service:
        return Answer(Health.PROGRESSING, f"the gateway leads {where} to {named}", True)
    return Answer(Health.HEALTHY, "", bool(named), reached)


def _message(answer: requests.Response) -> str:
    """The message of an error that Kong itself made; "" where the app answered."""
    try:
        body = json.loads(answer.raw.read(LONGEST, decode_content=True))
    except (ValueError, HTTPError):
        return ""
    is_kongs = isinstance(body, dict) and body.keys() <= {"message", "request_id"}
    return str(body.get("message", "")) if is_kongs else ""
