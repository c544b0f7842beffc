"""What the gateway tells of a request that is over: Kong's log serializer, sent by the plugin udp-log.

The fields are those of `kong/pdk/log.lua` of Kong 3.9.1, and held to an entry that a real one sent
(tests/contract/recorded_logs).  Of `custom_fields_by_lua` two programs are known: `return nil` and `return "TEXT"`.
"""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from typing import Any

from tests.lab.kong_standin.policies import Exchange, Policy, config_of
from tests.lab.kong_standin.rules import Record

UDP_LOG = Policy("udp-log")
WORKSPACE = "0dc6f45b-8f8d-40d2-a504-473544ee190b"
CLIENT_GONE = 499  # nginx's own status of a request whose client has hung up
_CONSTANT = re.compile(r"""return\s+(?:nil|"([^"]*)"|'([^']*)')\s*""")


class Told:
    """One request, from its beginning: what became of it is told once, at its end."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._began = time.time()
        self._tries: list[Record] = []
        self._statuses: list[str] = []
        self._waited = -1.0  # ms until the answer of a target began

    def tries(self, ip: str, port: int) -> None:
        """It goes to this target now; whoever was tried before has failed."""
        if self._tries:
            self._tries[-1] |= {"state": "failed", "code": int(self._statuses[-1])}
        now = time.time_ns()
        times = {"balancer_start": now // 1_000_000, "balancer_start_ns": now}
        self._tries.append({"ip": ip, "port": port, **times, "balancer_latency": 0, "balancer_latency_ns": 12_000})

    def failed(self, status: int) -> None:
        """The target gave no answer, which nginx has as that status of its."""
        self._statuses.append(str(status))

    def answered(self, status: int, milliseconds: float) -> None:
        self._statuses.append(str(status))
        self._waited = int(milliseconds)

    def end(self, status: int, headers: dict[str, str], size: int) -> None:
        """The request is over."""
        if (config := config_of(UDP_LOG, self._exchange)) is None:
            return
        entry = self._entry(status, headers, size)
        for key, program in (config["custom_fields_by_lua"] or {}).items():
            _set(entry, key, program)
        address = (config["host"], config["port"])
        family = socket.AF_INET6 if ":" in config["host"] else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as out:
            out.sendto(json.dumps(entry).encode(), address)

    def _entry(self, status: int, headers: dict[str, str], size: int) -> Record:
        exchange, took = self._exchange, int((time.time() - self._began) * 1000)
        request, match = exchange.request, exchange.match
        given = {name.lower(): value for name, value in request.headers.items()}
        for secret in {"authorization", "proxy-authorization"} & given.keys():
            given[secret] = "REDACTED"
        entry: Record = {
            "request": {
                "id": exchange.id,
                "uri": request.raw_path,
                "url": f"http://{request.host}{request.raw_path}",
                "querystring": dict(request.rel_url.query),
                "method": request.method,
                "headers": given,
                "size": len(request.raw_path) + sum(len(name) + len(value) for name, value in given.items()),
            },
            "upstream_uri": request.raw_path,
            "upstream_status": ", ".join(self._statuses),
            "response": {"status": status, "headers": headers, "size": size},
            "latencies": {"kong": 0, "proxy": self._waited, "request": took, "receive": 0},
            "tries": self._tries,
            "route": _without_null(match.route),
            "client_ip": exchange.client,
            "started_at": int(self._began * 1000),
            "source": "upstream" if self._waited >= 0 else "kong",
            "workspace": WORKSPACE,
            "workspace_name": "default",
        }
        if match.service:
            entry["service"] = _without_null(match.service)
        if exchange.credential:
            entry["authenticated_entity"] = {"id": exchange.credential["id"]}
        if exchange.consumer:
            entry["consumer"] = _without_null(exchange.consumer)
        if not self._tries:
            del entry["tries"]
        return entry


def _without_null(record: Record) -> Record:
    """Lua has no keys without a value."""
    return {key: value for key, value in record.items() if value is not None}


def _set(entry: Record, key: str, program: str) -> None:
    """Set a field to what a program returns, as `kong.log.set_serialize_value` does; `nil` takes it away."""
    if not (found := _CONSTANT.fullmatch(program)):
        return
    value = found[1] if found[1] is not None else found[2]
    *folders, last = key.split(".")
    place: Any = entry
    for folder in folders:
        place = place.setdefault(folder, {})
    place.pop(last, None)
    if value is not None:
        place[last] = value
