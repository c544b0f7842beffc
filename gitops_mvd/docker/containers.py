"""The containers of an engine: listed, inspected, asked and removed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import cast
from urllib.parse import quote

from docker.errors import NotFound

from gitops_mvd.core.errors import reading
from gitops_mvd.core.model import Instance
from gitops_mvd.docker import container as one
from gitops_mvd.docker.answers import APP, inspected, listed, message, names, reached, verdict
from gitops_mvd.docker.connection import Connection, root
from gitops_mvd.docker.container import Ran
from gitops_mvd.docker.create import ENDPOINTS_AT_CREATE, Body, Request
from gitops_mvd.docker.ownership import UNFINISHED, managed
from gitops_mvd.docker.shape import checked, each_checked
from gitops_mvd.docker.types import InspectedContainer, ListedContainer, PathStat
from gitops_mvd.net.line import limit

log = logging.getLogger(__name__)

STOP_SLACK_SECONDS = 60.0  # beyond the grace period
LOOK_WITHIN_SECONDS = 10.0  # into a container
HOST_NETWORK, LOOPBACK = "host", "127.0.0.1"
MOST_NEIGHBOURS = 100  # containers on the networks of another one, each of which is inspected


class ContainerApi(Connection):
    """`GET /containers/json` and `/containers/{name}`."""

    def containers(self) -> Sequence[ListedContainer]:
        """The containers with labels of gitops-mvd, in any state, in one call; `ownership` tells which are managed."""
        if seen := getattr(self.local, "containers", None):
            return cast(Sequence[ListedContainer], seen)
        listing = self._labelled(APP)
        if hasattr(self.local, "containers"):
            self.local.containers = listing
        return listing

    def containers_of(self, app: str) -> Sequence[ListedContainer]:
        """The same of one app, as they are now: the engine looks no closer at the others."""
        return self._labelled(f"{APP}={app}")

    def _labelled(self, label: str) -> Sequence[ListedContainer]:
        with self.asking("list the containers") as api:
            return each_checked(api.containers(all=True, filters={"label": [label]}), ListedContainer)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A pass begins: within this context, this thread lists the containers only once.

        If no stream of events is followed, the other listings are cached from here to the next snapshot.
        """
        self.local.containers = None
        if self.stream is None:
            self.cache.begin()
        try:
            yield
        finally:
            del self.local.containers

    def instances(self, app: str = "") -> dict[str, Instance]:
        """The managed containers by name, of one app or of all.

        The listing knows no start: `started` is the time they were created.
        """
        listing = self.containers_of(app) if app else self.containers()
        return {name: listed(container) for name, container in managed(listing).items()}

    def instance(self, name: str) -> Instance | None:
        """One container exactly as it is now, None if there is none of exactly that name."""
        found = self.inspect(name)
        return inspected(found) if found else None

    def exit_code(self, container: str, ago: float) -> int | None:
        """With what a container of that name ended in the last so many seconds, even if it is gone; else None."""
        with self.asking(f"look for the end of container {container}") as api:
            return one.exit_code(api, root(api), container, ago)

    def aliases(self, container: str) -> dict[str, list[str]]:
        """The aliases of a container by network; empty if there is no such container."""
        found = self._inspected(container)
        return names(found) if found else {}

    def api_version(self) -> tuple[int, int]:
        """The version of the API that is spoken with this engine, such as (1, 41) for Docker 20.10."""
        with self.asking("read the version of Docker") as api:
            major, _, minor = str(api.api_version).partition(".")
            return int(major), int(minor)

    def inspect(self, container: str) -> InspectedContainer | None:
        """The answer about the container of exactly that name, None if there is none."""
        found = self._inspected(container)
        return found if found and found["Name"] == f"/{container}" else None

    def create(self, name: str, request: Request) -> None:
        """Create a container, on all of its networks or not at all.

        Before API 1.44, it has another name until it has joined the last one.
        """
        version = self.api_version()
        is_whole = len(request.networks) < 2 or version >= ENDPOINTS_AT_CREATE
        first = name if is_whole else f"{name}{UNFINISHED}"
        if not is_whole:
            self.remove(first, volumes=True)  # what a crash has left
        query = {"name": first, **({"platform": request.platform} if request.platform else {})}
        made = self._post(f"create container {name}", "/containers/create", request.body, query=query)
        with reading("Docker"):
            warnings = json.loads(made).get("Warnings") or ()
        for warning in map(str, warnings):
            log.warning("created container=%s warning=%s", name, warning)
        if not is_whole:
            for network, endpoint in request.networks[1:]:
                self.connect(first, network, endpoint)
            self.rename(first, name)

    def rename(self, container: str, name: str) -> None:
        """Give a container, by its id or name, another name."""
        self._post(f"rename container {container}", f"/containers/{container}/rename", query={"name": name})

    def connect(self, container: str, network: str, endpoint: Body) -> None:
        """Attach a container to a network; one that is on it already stays as it is."""
        what = f"connect container {container} to network {network}"
        body = {"Container": container, "EndpointConfig": endpoint}
        self._post(what, f"/networks/{network}/connect", body, fine="already exists in network")

    def disconnect(self, container: str, network: str) -> None:
        """Detach a container from a network; one that is not on it is fine."""
        what = f"disconnect container {container} from network {network}"
        body = {"Container": container, "Force": True}
        self._post(what, f"/networks/{network}/disconnect", body, fine="is not connected to")

    def start(self, container: str) -> None:
        """Start a container; one that runs is fine."""
        self._post(f"start container {container}", f"/containers/{container}/start")

    def stop(self, container: str, grace: float) -> None:
        """Stop a container, which has so many seconds for it; one that does not run, or exist, is fine."""
        path = f"/containers/{container}/stop"
        self._post(f"stop container {container}", path, within=grace + STOP_SLACK_SECONDS, fine="No such container")

    def _post(
        self,
        what: str,
        path: str,
        body: Body | None = None,
        *,
        query: Mapping[str, str] | None = None,
        fine: str = "",
        within: float = 0.0,
    ) -> str:
        """Ask for a change in the words of the API, and return the answer.

        One that has the text `fine` in it is no failure.
        """
        with self.asking(what) as api:
            answer = api.post(root(api) + quote(path), json=body, params=query, timeout=within or api.timeout)
            text = answer.text
        if not answer.ok and not (fine and fine in text):
            raise verdict(answer.status_code, message(text), what)
        return text

    def remove(self, container: str, *, volumes: bool) -> None:
        """Stop and remove a container, and with `volumes` its anonymous ones; one that does not exist is fine."""
        with self.asking(f"remove container {container}") as api, suppress(NotFound):
            api.remove_container(container, v=volumes, force=True)

    def execute(self, container: str, command: Sequence[str], within: float) -> Ran:
        """Run a command in a container; one that does not end within so many seconds is killed where that can be."""
        with self.asking(f"run a command in container {container}") as api:
            return one.execute(api, root(api), container, command, within)

    def running(self) -> Sequence[ListedContainer]:
        """The containers that run, whoever has made them."""
        with self.asking("list the containers that run") as api:
            return each_checked(api.containers(), ListedContainer)

    def stat(self, container: str, path: str) -> PathStat | None:
        """A path in a container, which need not run; of a link itself.  None if there is nothing."""
        with self.asking(f"look for {path} in container {container}") as api:
            return one.stat(api, root(api), container, path, min(LOOK_WITHIN_SECONDS, api.timeout))

    def text(self, container: str, path: str) -> str | None:
        """The text of a file in a container, which need not run; None if there is no such file."""
        with self.asking(f"read {path} in container {container}") as api:
            return one.text(api, root(api), container, path, min(LOOK_WITHIN_SECONDS, api.timeout))

    def modified(self, container: str, path: str, within: float) -> float | None:
        """When a file in a container was last modified, in Unix time; None if there is no such file."""
        with self.asking(f"look for {path} in container {container}") as api:
            return one.modified(api, root(api), container, path, within)

    def addresses(self, container: str, within: float) -> dict[str, str]:
        """The address behind each name that a container itself knows: `localhost`, and who is on its networks."""
        with limit(within):
            found = self._with_network(container)
            if not found or not (networks := found["NetworkSettings"]["Networks"]):
                return {}
            if HOST_NETWORK in networks:
                return {"localhost": LOOPBACK}
            own = {endpoint.get("NetworkID") for endpoint in networks.values()}
            with self.asking("list the containers on its networks") as api:
                beside = each_checked(api.containers(filters={"network": [*filter(None, own)]}), ListedContainer)
            near = [self._inspected(each["Id"]) for each in beside[:MOST_NEIGHBOURS]]
            known = {name: at for each in (*near, found) if each for name, at in reached(each, own).items()}
            itself = next(iter(reached(found, own).values()), "")
            return {**known, "localhost": itself} if itself else known

    def environment(self, container: str, within: float) -> dict[str, str]:
        """The environment of a container; empty if there is no such container."""
        with limit(within):
            found = self.inspect(container)
        variables = (found["Config"].get("Env") or []) if found else []
        return dict(variable.split("=", 1) for variable in variables if "=" in variable)

    def _with_network(self, container: str) -> InspectedContainer | None:
        """The container, or the one whose network it shares."""
        found = self._inspected(container)
        kind, _, other = found["HostConfig"].get("NetworkMode", "").partition(":") if found else ("", "", "")
        return self._inspected(other) if kind == "container" and other else found

    def _inspected(self, container: str) -> InspectedContainer | None:
        with self.asking(f"inspect container {container}") as api, suppress(NotFound):
            return checked(api.inspect_container(container), InspectedContainer)
        return None
