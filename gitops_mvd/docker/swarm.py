"""A manager of a Swarm: an engine whose instances are services, with their tasks on whichever nodes these are.

Everything is asked for anew: a manager that sees no quorum answers 503, which is Unavailable, and says nothing about
what runs.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import docker.auth

from gitops_mvd.core import compose
from gitops_mvd.core.claims import Claim
from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import LABEL, Instance, unix_time
from gitops_mvd.docker.answers import APP, message, parts, payloads, verdict
from gitops_mvd.docker.claims import claims_of_service, written
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.connection import root
from gitops_mvd.docker.create import Body
from gitops_mvd.docker.shape import each_checked
from gitops_mvd.docker.swarm_request import Kept
from gitops_mvd.docker.types import ListedConfig, ListedNode, ListedService, ListedTask, ListedVolume
from gitops_mvd.net.line import limit

BEGINS = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting")
ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")  # states that a task has for good
FAILED = ("failed", "rejected")
ENDED_BADLY = "task: non-zero exit"  # Swarm's words for a task that ran; with others it was not started
LOG_WITHIN_SECONDS = 5.0
DIGEST_KEY = "mvd-digest-key"  # the name of a config: who may read that may also mount any secret
DIGEST_KEY_BYTES = 32
NO_SWARM = "Make it one: docker swarm init, or docker swarm join with the token of docker swarm join-token manager"


Ports = Mapping[str, Mapping[int, int]]
"""Port in the container -> port of the node, by task."""


class Memory(Protocol):
    """Where the ports of tasks are kept while no daemon runs."""

    def read(self) -> Ports: ...

    def save(self, ports: Ports) -> None: ...


@dataclass(frozen=True, slots=True)
class Task:
    """One task: `node` is the name of the node it is on, `address` how others reach that; "" before it has one.

    `state` is Swarm's word.  It `serves` if it runs, is to run, and its node is there; it was `refused` if its node did
    not start it.  `why` is what Swarm says of it, such as why there is no node for it.  `ports` maps a port in the
    container to one of the node.
    """

    id: str
    node: str = ""
    address: str = ""
    state: str = ""
    is_wanted: bool = False
    serves: bool = False
    why: str = ""
    exit_code: int = 0
    refused: bool = False
    ports: Mapping[int, int] = field(default_factory=dict)

    def at(self, port: int) -> str:
        """The address at which others reach a port of its container; "" if it is not published."""
        return f"{self.address}:{self.ports[port]}" if self.address and port in self.ports else ""


@dataclass(frozen=True, slots=True)
class Running:
    """A managed service as the Swarm has it: its labels without their prefix, and its tasks, the newest first.

    `replicas` is how many tasks there should be, and `claims` what only one service can have of a node.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    created: str
    replicas: int
    tasks: Sequence[Task]
    claims: frozenset[Claim] = frozenset()

    @property
    def serving(self) -> Sequence[Task]:
        return [task for task in self.tasks if task.serves]

    @property
    def failed(self) -> Sequence[Task]:
        """The tasks that have ended with a failure, as far as the Swarm remembers."""
        return [task for task in self.tasks if task.state in FAILED]

    @property
    def is_completed(self) -> bool:
        """Has every task that there should be ended with code 0?"""
        done = sum(task.state == "complete" for task in self.tasks)
        return bool(done) and done >= self.replicas and not self.serving

    @property
    def lacks(self) -> str:
        """What it has too little of, and why; "" if all tasks run or have ended well."""
        if len(self.serving) >= self.replicas or self.is_completed:
            return ""
        noun = "task runs" if self.replicas == 1 else "tasks run"
        short = f"{len(self.serving)} of {self.replicas} {noun}"
        why = next((it.why for it in self.tasks if it.is_wanted and not it.serves and it.why), "")
        why = why or next((it.why for it in self.failed if it.why), "")
        return f"{short}: {why}" if why else short


class Manager(Engine):
    """The engine of a node that is a manager: its instances, networks and images are those of the whole Swarm.

    `_ports` are those of each task.  They are kept, also in what `memory` there is, as a Swarm that has another leader
    knows those no more that it gave to tasks before, which go on at them.
    """

    def __init__(self, *args: Any, memory: Memory | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._memory = memory
        self._ports = memory.read() if memory else {}

    # ---- what there is -----------------------------------------------------------------------------------------------

    def services(self) -> Mapping[str, Running]:
        """The managed services by name."""
        if (seen := getattr(self.local, "services", None)) is not None:
            return seen  # type: ignore[no-any-return]
        found = self._look()
        if hasattr(self.local, "services"):
            self.local.services = found
        return found

    def service(self, name: str) -> Running | None:
        """One managed service exactly as it is now; None if there is none of that name."""
        return self._look(name).get(name)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self.local.services = None
        try:
            with super().snapshot():
                yield
        finally:
            del self.local.services

    def instances(self, app: str = "") -> dict[str, Instance]:
        """Each service is one instance, all of its tasks together."""
        found = self.services() if not app else self._look()
        return {name: _instance(it) for name, it in found.items() if app in ("", it.labels["app"])}

    def instance(self, name: str) -> Instance | None:
        found = self.service(name)
        return _instance(found) if found else None

    def leader(self) -> str:
        """The name of the node that leads; "" if it is this one.  Raises Unavailable if there is none."""
        swarm = self.info().get("Swarm", {})
        if not swarm.get("ControlAvailable"):
            raise Unavailable("this Docker is no manager of a Swarm", NO_SWARM)
        led_by = next((it for it in self.nodes() if it.get("ManagerStatus", {}).get("Leader")), None)
        if led_by is None:
            raise Unavailable("the Swarm has no leader", "see docker node ls")
        return "" if led_by["ID"] == swarm.get("NodeID") else led_by["Description"]["Hostname"]

    def nodes(self) -> Sequence[ListedNode]:
        return each_checked(self._get("nodes"), ListedNode)

    def said(self, name: str, number: int) -> list[str]:
        """The last lines that the tasks of a service have printed; empty if they cannot be read."""
        asked = {"stdout": "true", "stderr": "true", "tail": str(number)}
        try:
            with self.asking(f"read the log of service {name}") as api:
                path = f"{root(api)}/services/{name}/logs"
                with limit(LOG_WITHIN_SECONDS), api.get(path, params=asked, timeout=LOG_WITHIN_SECONDS) as answer:
                    text = b"".join(payloads([answer.content])) if answer.ok else b""
        except MvdError:
            return []
        return [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()][-number:]

    def _look(self, name: str = "") -> Mapping[str, Running]:
        wanted = {"label": [APP], **({"name": [name]} if name else {})}
        services = each_checked(self._get("services", wanted), ListedService)
        by_service: defaultdict[str, list[ListedTask]] = defaultdict(list)
        nodes: Mapping[str, ListedNode] = {}
        if services:
            # Not by service: one that is gone by now would be an error.
            tasks = each_checked(self._get("tasks"), ListedTask)
            self._keep_ports({it["ID"]: _ports(it) or self._ports.get(it["ID"], {}) for it in tasks})
            for task in tasks:
                by_service[task["ServiceID"]].append(task)
            nodes = {node["ID"]: node for node in self.nodes()}
        found = (_running(it, by_service[it["ID"]], nodes, self._ports) for it in services)
        return {it.name: it for it in found if _is_managed(it)}

    def _keep_ports(self, ports: Ports) -> None:
        if ports != self._ports:
            self._ports = ports
            if self._memory:
                self._memory.save(ports)

    def _get(self, what: str, filters: Mapping[str, Sequence[str]] = MappingProxyType({})) -> object:
        asked = f"list the {what} of the Swarm"
        with self.asking(asked) as api:
            query = {"filters": json.dumps(dict(filters))} if filters else {}
            answer = api.get(f"{root(api)}/{what}", params=query, timeout=api.timeout)
            if not answer.ok:
                raise verdict(answer.status_code, message(answer.text), asked)
            return answer.json()

    # ---- what is changed ---------------------------------------------------------------------------------------------

    def create_service(self, name: str, image: str, body: Body) -> None:
        """Create a service.  Its nodes pull the image with the login that this manager has for its registry."""
        with self.asking(f"create service {name}") as api:
            api.reload_config()
            registry = docker.auth.resolve_repository_name(parts(image)[0])[0]
            login = self._login(image)
            header = docker.auth.encode_header(login) if login else docker.auth.get_config_header(api, registry)
            headers = {"X-Registry-Auth": header} if header else {}
            answer = api.post(f"{root(api)}/services/create", json=body, headers=headers, timeout=api.timeout)
            if not answer.ok:
                raise verdict(answer.status_code, message(answer.text), f"create service {name}")

    def kept(self, what: Kept) -> Sequence[ListedConfig]:
        """The configs, or the secrets, with labels of gitops-mvd."""
        return each_checked(self._get(f"{what}s", {"label": [APP]}), ListedConfig)

    def keep(self, what: Kept, name: str, content: bytes, labels: Mapping[str, str]) -> None:
        """Create a config or a secret of that content, which never changes."""
        data = base64.b64encode(content).decode("ascii")
        self._post(f"create {what} {name}", f"/{what}s/create", {"Name": name, "Labels": dict(labels), "Data": data})

    def drop(self, what: Kept, name: str) -> None:
        """Remove a config or a secret; one that does not exist is fine."""
        self._delete(f"remove {what} {name}", f"{what}s/{name}")

    def digest_key(self) -> bytes:
        """The key of digests of secrets that all managers have; it is made when it is first needed."""
        if not (key := self._digest_key()):
            # Of two managers that make one, the later one is refused, and takes that of the other.
            with suppress(StepFailed):
                self.keep("config", DIGEST_KEY, secrets.token_bytes(DIGEST_KEY_BYTES), {})
            key = self._digest_key()
        if not key:
            raise Unavailable(f"could not make the config {DIGEST_KEY}, the key of all digests of secrets")
        if len(key) != DIGEST_KEY_BYTES:
            hint = f"docker config rm {DIGEST_KEY}: then each service with a secret is deployed anew, once"
            raise Unavailable(f"the config {DIGEST_KEY} is not the key of {DIGEST_KEY_BYTES} bytes that it was", hint)
        return key

    def _digest_key(self) -> bytes:
        found = each_checked(self._get("configs", {"name": [DIGEST_KEY]}), ListedConfig)
        data = next((it["Spec"].get("Data", "") for it in found if it["Spec"]["Name"] == DIGEST_KEY), "")
        return base64.b64decode(data)

    def remove_service(self, id: str) -> None:
        """Remove a service, by its id; one that does not exist is fine."""
        self._delete(f"remove service {id}", f"services/{id}")

    def _delete(self, what: str, path: str) -> None:
        with self.asking(what) as api:
            answer = api.delete(f"{root(api)}/{path}", timeout=api.timeout)
            if not answer.ok and answer.status_code != 404:
                raise verdict(answer.status_code, message(answer.text), what)

    def has_tasks(self, id: str) -> bool:
        """Is any task of a service, by its id, still to end?  Those of a node that is gone are not waited for."""
        nodes = {node["ID"] for node in self.nodes() if node["Status"]["State"] == "ready"}
        tasks = (it for it in each_checked(self._get("tasks"), ListedTask) if it["ServiceID"] == id)
        return any(it["Status"]["State"] not in ENDED and it.get("NodeID") in nodes for it in tasks)

    def left_to(self, volumes: Set[str]) -> str:
        """The id of a task of a removed service that may still write to one of these volumes; "" if there is none."""
        tasks = each_checked(self._get("tasks"), ListedTask)  # first: a service that is made meanwhile has its own
        there = {it["ID"] for it in each_checked(self._get("services"), ListedService)}
        left = (it for it in tasks if it["ServiceID"] not in there and it["Status"]["State"] not in ENDED)
        return next((it["ID"] for it in left if it.get("NodeID") and written(it.get("Spec", {})) & volumes), "")

    def volumes(self) -> Sequence[ListedVolume]:
        """None: what this node has says nothing of the others."""
        return ()

    def create_network(self, name: str, options: compose.Network, labels: Mapping[str, str]) -> None:
        """Make a network on which the tasks of all nodes find each other."""
        super().create_network(name, {"driver": "overlay", **options}, labels)

    def _held(self, repository: str, written: str) -> str:
        """What the newest service has that was made of that tag; what this node alone has is of no use to others."""
        made = (it for it in self.services().values() if it.labels.get("tag") == written)
        newest = max(made, key=lambda it: it.created, default=None)
        return newest.labels.get("image", "") if newest else ""


def _is_managed(found: Running) -> bool:
    labels = found.labels
    name = f"mvd-{labels.get('app')}-{labels.get('service')}-{labels.get('digest', '')[:8]}"
    return bool(labels.get("digest")) and found.name == name


def _running(
    service: ListedService,
    tasks: Iterable[ListedTask],
    nodes: Mapping[str, ListedNode],
    ports: Ports,
) -> Running:
    every_label = (service["Spec"]["Labels"] or {}).items()
    labels = {name.removeprefix(LABEL): value for name, value in every_label if name.startswith(LABEL)}
    by_age = sorted(tasks, key=lambda it: it["CreatedAt"], reverse=True)
    every = [_task(it, nodes.get(it.get("NodeID", "")), ports[it["ID"]]) for it in by_age]
    fixed = service["Spec"]["Mode"].get("Replicated")
    replicas = fixed.get("Replicas", 1) if fixed else sum(task.is_wanted for task in every)
    name, claims = service["Spec"]["Name"], claims_of_service(service["Spec"])
    return Running(service["ID"], name, labels, service["CreatedAt"], replicas, every, claims)


def _ports(task: ListedTask) -> Mapping[int, int]:
    """Port in the container -> port of the node."""
    ports: dict[int, int] = {}
    for port in task["Status"].get("PortStatus", {}).get("Ports") or ():
        ports.setdefault(port["TargetPort"], port.get("PublishedPort", 0))
    return ports


def _task(task: ListedTask, node: ListedNode | None, ports: Mapping[int, int]) -> Task:
    status, wanted = task["Status"], task["DesiredState"] in ("running", "ready", "complete")
    is_there = node is not None and node["Status"]["State"] == "ready"
    serves = status["State"] == "running" and task["DesiredState"] == "running" and is_there
    exit_code = (status.get("ContainerStatus") or {}).get("ExitCode", 0)
    name = node["Description"]["Hostname"] if node else ""
    said, why = status.get("Err", ""), _why(task, name, exit_code)
    refused = status["State"] in FAILED and said != "" and not said.startswith(ENDED_BADLY)
    return Task(
        task["ID"], name, _address(node), status["State"], wanted, serves, why, exit_code, refused=refused, ports=ports
    )


def _why(task: ListedTask, node: str, exit_code: int) -> str:
    """What Swarm says of a task that does not run, in our words where it has ended; "" while it only begins."""
    status = task["Status"]
    said, on = status.get("Err", ""), f" on {node}" if node else ""
    if said.startswith(ENDED_BADLY) or (exit_code and not said):
        return f"exited with code {exit_code}{on}"
    if said:
        return f"{said}{on}"
    return f"exited with code 0{on}" if status["State"] == "complete" else ""


def _address(node: ListedNode | None) -> str:
    """How others reach a node; a manager that leads may know itself by 127.0.0.1 or 0.0.0.0 only."""
    if node is None:
        return ""
    advertised = node.get("ManagerStatus", {}).get("Addr", "").rpartition(":")[0]
    address = advertised or node["Status"].get("Addr", "")
    return f"[{address}]" if ":" in address.strip("[]") else address


def _instance(found: Running) -> Instance:
    begins = all(task.state in BEGINS and not task.why for task in found.tasks)
    state = "created" if begins else "exited" if found.is_completed else "running"
    return Instance(
        name=found.name,
        app=found.labels["app"],
        service=found.labels.get("service", ""),
        state=state,
        started=str(int(unix_time(found.created))),
        lacks="" if begins else found.lacks,
        id=found.id,
    )
