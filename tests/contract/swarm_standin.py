"""A Swarm of three nodes in memory, behind a socket: what Docker 20.10 was seen to answer as a manager.

with SwarmStandIn(path) as swarm:
    swarm.nodes["two"]["Status"]["State"] = "down"; swarm.schedule()
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

NO_LEADER = "rpc error: code = Unknown desc = The swarm does not have a leader. Too few managers are online."
CREATED = "2026-11-30T20:52:58.856681453Z"
Answer = tuple[int, Any]


class SwarmStandIn(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """`services` and `tasks` are as the API has them; `begins` is the state that a new task has."""

    daemon_threads = True

    def __init__(self, path: Path, asks: str = "one") -> None:
        self.nodes = {name: _node(name, number) for number, name in enumerate(("one", "two", "three"), 1)}
        self.services: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.networks: list[dict[str, Any]] = []
        self.configs: list[dict[str, Any]] = []
        self.secrets: list[dict[str, Any]] = []
        self.begins = "running"
        self.has_quorum = True
        self.serves = False  # does each task answer, with the VERSION of its environment?
        self.listening: dict[str, HTTPServer] = {}  # by task
        self.asks = asks  # the node that is asked
        self.created: list[Any] = []
        self.beside: list[list[str]] = []  # for each of these, the tasks that ran as it was created
        self.lingers = False  # do tasks of a service that is removed go on, until they are told to `end`?
        self._numbers = itertools.count(1)
        super().__init__(str(path), _Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self.tasks = []
        self._stop_serving()

    def answer(self, method: str, path: str, query: dict[str, Any], body: Any) -> Answer:
        swarm = {"LocalNodeState": "active", "NodeID": f"id-{self.asks}", "ControlAvailable": True}
        if path == "/version":
            return 200, {"ApiVersion": "1.41"}
        if path == "/info":
            plugins = {"Log": ["json-file", "journald"]}
            return 200, {"ServerVersion": "20.10.24", "Driver": "overlay2", "Plugins": plugins, "Swarm": swarm}
        if path.startswith("/distribution/"):
            return 200, {"Descriptor": {"digest": f"sha256:{hashlib.sha256(path.encode()).hexdigest()}"}}
        if path in ("/_ping", "/images/json", "/containers/json"):
            return 200, []
        if path == "/networks":
            return 200, self.networks
        if not self.has_quorum:
            return 503, {"message": NO_LEADER}
        if path == "/nodes":
            return 200, list(self.nodes.values())
        if path == "/tasks":
            return 200, self.tasks
        if path == "/services":
            named = query.get("name", [""])
            return 200, [it for it in self.services if it["Spec"]["Name"].startswith(named[0])]
        if path == "/networks/create":
            made = {**body, "Id": f"network-{next(self._numbers)}", "Scope": "swarm", "Containers": {}}
            self.networks.append({**made, "IPAM": {"Driver": "default", "Config": []}})
            return 201, made
        if path.startswith("/networks/"):
            named = [it for it in self.networks if path.rpartition("/")[2] in (it["Id"], it["Name"])]
            if method == "DELETE":
                self.networks = [it for it in self.networks if it not in named]
            return (200, named[0]) if named else (404, {"message": "network not found"})
        for what, kept, largest in (("config", self.configs, 1_023_999), ("secret", self.secrets, 511_999)):
            if path.startswith(f"/{what}s"):
                return self._keep(what, kept, largest, method, path, query, body)
        if path == "/services/create":
            self.created.append(body)
            self.beside.append([it["ID"] for it in self.tasks if it["Status"]["State"] == "running"])
            made = {"ID": f"service-{next(self._numbers)}", "CreatedAt": CREATED, "Spec": body}
            self.services.append(made)
            self.schedule()
            return 201, {"ID": made["ID"]}
        if method == "DELETE" and path.startswith("/services/"):
            self.services = [it for it in self.services if it["ID"] != path.rpartition("/")[2]]
            if not self.lingers:
                self.end(path.rpartition("/")[2])
            return 200, None
        return 404, {"message": "page not found"}

    def end(self, service: str) -> None:
        """Have all tasks of that service ended."""
        self.tasks = [it for it in self.tasks if it["ServiceID"] != service]
        self._stop_serving()

    def _keep(
        self,
        what: str,
        kept: list[dict[str, Any]],
        largest: int,
        method: str,
        path: str,
        query: dict[str, Any],
        body: Any,
    ) -> Answer:
        """Configs, or secrets, of which nobody is told the content."""
        name = path.rpartition("/")[2]
        if method == "DELETE":
            if any(f'"{name}"' in json.dumps(it) for it in self.services):
                return 400, {"message": f"rpc error: code = InvalidArgument desc = {what} '{name}' is in use"}
            kept[:] = [it for it in kept if it["Spec"]["Name"] != name]
            return 204, None
        if name != "create":
            named, label = query.get("name", [""])[0], query.get("label", [""])[0]
            found = [it for it in kept if it["Spec"]["Name"].startswith(named) and label in {"", *it["Spec"]["Labels"]}]
            if what == "secret":
                found = [{**it, "Spec": {key: it["Spec"][key] for key in ("Name", "Labels")}} for it in found]
            return 200, found
        if not 1 <= len(base64.b64decode(body["Data"])) <= largest:
            return 400, {"message": f"rpc error: code = InvalidArgument desc = {what} data must be larger than 0"}
        if any(it["Spec"]["Name"] == body["Name"] for it in kept):
            return 409, {"message": f"rpc error: code = AlreadyExists desc = {what} {body['Name']} already exists"}
        kept.append({"ID": f"{what}-{next(self._numbers)}", "Spec": body})
        return 201, {"ID": kept[-1]["ID"]}

    def schedule(self) -> None:
        """Have each service its tasks, on the nodes that are there, in turns."""
        there = [node["ID"] for node in self.nodes.values() if node["Status"]["State"] == "ready"]
        for task in self.tasks:
            if task["NodeID"] not in there:
                task["DesiredState"] = "shutdown"
        self._stop_serving()
        for service in self.services:
            fixed = service["Spec"]["Mode"].get("Replicated", {}).get("Replicas", len(there))
            live = [it for it in self.tasks if it["ServiceID"] == service["ID"] and it["DesiredState"] == "running"]
            free = [node for node in there if node not in {it["NodeID"] for it in live}]
            for node in free[: fixed - len(live)]:
                self.tasks.append(self._task(service, node))
                if self.serves:
                    self._serve(self.tasks[-1], service)

    def _serve(self, task: dict[str, Any], service: dict[str, Any]) -> None:
        [address] = [it["Status"]["Addr"] for it in self.nodes.values() if it["ID"] == task["NodeID"]]
        environment = dict(it.split("=", 1) for it in service["Spec"]["TaskTemplate"]["ContainerSpec"]["Env"])
        listening = ThreadingHTTPServer((address, 0), type("Of", (_Web,), {"version": environment["VERSION"]}))
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        self.listening[task["ID"]] = listening
        for port in task["Status"]["PortStatus"]["Ports"]:
            port["PublishedPort"] = listening.server_port

    def _stop_serving(self) -> None:
        live = {task["ID"] for task in self.tasks if task["DesiredState"] == "running"}
        for task in self.listening.keys() - live:
            listening = self.listening.pop(task)
            listening.shutdown()
            listening.server_close()

    def _task(self, service: dict[str, Any], node: str) -> dict[str, Any]:
        number = next(self._numbers)
        ports = [
            {"Protocol": "tcp", "TargetPort": port["TargetPort"], "PublishedPort": 32768 + number}
            for port in service["Spec"].get("EndpointSpec", {}).get("Ports", [])
            for _ in ("IPv4", "IPv6")
        ]
        status = {"State": self.begins, "ContainerStatus": {"ExitCode": 0}, "PortStatus": {"Ports": ports}}
        return {
            "ID": f"task-{number}",
            "CreatedAt": f"{CREATED[:-4]}{number:03}Z",
            "ServiceID": service["ID"],
            "NodeID": node,
            "DesiredState": "running",
            "Status": status,
            "Spec": service["Spec"].get("TaskTemplate", {}),
        }


def _node(name: str, number: int) -> dict[str, Any]:
    address = f"127.0.0.{number}"
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": name},
        "Status": {"State": "ready", "Addr": address},
        "ManagerStatus": {"Leader": number == 1, "Reachability": "reachable", "Addr": f"{address}:2377"},
    }


class _Web(BaseHTTPRequestHandler):
    """What runs in a task: it says its version, and one that is sick is not well."""

    version = ""

    def do_GET(self) -> None:
        content = self.version.encode()
        self.send_response(500 if "sick" in self.version else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    server: SwarmStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        filters = json.loads(unquote(query["filters"][0])) if "filters" in query else {}
        body = json.loads(sent) if sent else None
        status, value = self.server.answer(self.command, url.path.removeprefix("/v1.41"), filters, body)
        content = json.dumps(value).encode() if value is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass
