"""`container`: what an instance runs in, made once and then started again by its unit, until a commit replaces it.

It is made before anything stops: it takes no port and writes no data before its start.  What it writes, in its own
layer and in anonymous volumes, outlives crash, stop and reboot.  A service that stops before its successor starts hands
its anonymous volumes over to that, as Compose does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Resource, Role, Service
from gitops_mvd.core.specs import ContainerSpec, Joined, Unnamed, container_spec, secrets_of_environment, service_of
from gitops_mvd.docker.aliases import NO_ALIASES
from gitops_mvd.docker.answers import label, port_of
from gitops_mvd.docker.claims import claims
from gitops_mvd.docker.create import Place, endpoint_body, request, seccomp_profiles, too_new
from gitops_mvd.docker.ownership import by_own_name, name_of
from gitops_mvd.docker.possible import refuse_addresses
from gitops_mvd.docker.types import ListedContainer
from gitops_mvd.kinds import Tools
from gitops_mvd.secrets.store import as_text
from gitops_mvd.state.folders import check_folders
from gitops_mvd.systemd.unit import SYSTEMD, follower_of
from gitops_mvd.systemd.unit_files import UnitFiles

MADE, NETWORK_LOST, RENAMED = "made", "not on its network", "was renamed to"  # states; the last with the other name
ORPHAN_GRACE_SECONDS = 600.0  # it has what its engine was told to give it; this is how long that is waited for
STARTED = ("running", "exited", "paused", "restarting", "dead")
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_REPLICA = re.compile(r"-[0-9a-f]{8}(?:-([0-9]+))?$")  # ends the name of an instance


class Containers:
    """The `payload` of a wanted one is its Service, or that as Unnamed for one without the aliases of the service."""

    name = "container"
    after = ("image", "network", "volume", "config", "folder")
    role = Role.CONTAINER
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._engine = tools.engine
        self._units = UnitFiles(tools.units)

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            for name in service.instances(app.name):
                spec = ContainerSpec(digest=service.digest, port=0, state=MADE)
                yield Resource(self.name, name, app.name, service.name, spec, service)

    def observe(self) -> Iterable[Resource]:
        for name, container in self._containers().items():
            spec = self._made_of(name, container)
            if container["State"] == "paused":
                spec["overridden"] = f"its container is paused: docker unpause {name_of(container)}"
            networks = frozenset(container["NetworkSettings"]["Networks"] or ())
            joined = Joined(networks, container["Id"], claims(container, self._tools.folders))
            yield Resource(self.name, name, label(container, "app"), label(container, "service"), spec, joined)

    def _containers(self) -> dict[str, ListedContainer]:
        """The managed containers by the name that they should have."""
        return by_own_name(self._engine.containers(), self._units.names)

    def _containers_for(self, changes: Sequence[Change]) -> dict[str, ListedContainer]:
        """The same, as far as they matter to some changes: to make one, those of other apps are not looked at."""
        apps = {change.resource.app for change in changes}
        if len(apps) != 1 or any(change.to is None for change in changes):
            return self._containers()
        return by_own_name(self._engine.containers_of(apps.pop()), self._units.names)

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        containers = self._containers_for(changes)
        leaving = {change.resource.name for change in changes if not change.to}
        stay = [container for name, container in containers.items() if name not in leaving]
        for change in changes:
            wanted, found = change.to, containers.get(change.resource.name)
            if not wanted:
                if found := found or self._was(change):
                    self._delete(found, stay)
                continue
            if found and name_of(found) != wanted.name:
                self._engine.rename(found["Id"], wanted.name)
                found = {**found, "Names": [f"/{wanted.name}"]}
            if found and self._made_of(wanted.name, found) == container_spec(wanted):
                continue
            if found and self._made_of(wanted.name, found) == {**container_spec(wanted), "state": NETWORK_LOST}:
                self._rejoin(wanted, found)
            elif not isinstance(wanted.payload, Joined):  # else it is what was found, and is gone
                self._create(wanted, containers)

    def _was(self, change: Change) -> ListedContainer | None:
        """The container that was found under another name, while it still had a unit."""
        payload = change.was.payload if change.was else None
        if not isinstance(payload, Joined):
            return None
        return next((it for it in self._engine.containers() if it["Id"] == payload.id and it["Names"]), None)

    # ---- creating ----------------------------------------------------------------------------------------------------

    def _create(self, wanted: Resource, containers: Mapping[str, ListedContainer]) -> None:
        service, spec = service_of(wanted), container_spec(wanted)
        who = f"{wanted.app}/{wanted.service}"
        api = self._engine.api_version()
        if why := too_new(service.run, api):
            raise StepFailed(f"{who}: {why}, and this is Docker {self._engine.info()['ServerVersion']}")
        check_folders(self._tools.folders, wanted.app, service)
        refuse_addresses(self._engine, service.name, service.endpoints(wanted.app))
        place = Place(
            files=str(self._tools.files / service.instances(wanted.app)[0]),
            folders=str(self._tools.folders),
            port=spec["port"],
            address=self._tools.address,
            staged=isinstance(wanted.payload, Unnamed),
            follows=SYSTEMD if follower_of(service) == SYSTEMD and self._engine.writes_journal() else "",
            inherited=_inherited(wanted, service, containers),
            seccomp=_profiles(service),
            secrets=_secrets(self._tools.files / service.instances(wanted.app)[0], service),
            revision=self._tools.commit_of(wanted.app, wanted.name),
        )
        try:
            asked = request(wanted.app, service, place, api)
        except KeyError as error:
            raise StepFailed(f"{who}: no container can be made of it: {error}") from error
        if why := _refusal(asked.body):
            raise StepFailed(f"{who}: no container can be made of it: {why}")
        if wanted.name in containers:  # made of something else
            self._engine.remove(wanted.name, volumes=False)
        try:
            self._engine.create(wanted.name, asked)
        except StepFailed as refused:
            if not self._engine.inspect(wanted.name):
                raise
            raise NotNow(
                f"{who}: a container that gitops-mvd did not make has the name {wanted.name}",
                f"see what it is (docker inspect {wanted.name}), then rename or remove it",
            ) from refused

    def _made_of(self, name: str, container: ListedContainer) -> ContainerSpec:
        state = NETWORK_LOST if self._lost(container) else MADE
        if (actual := name_of(container)) != name:
            state = f"{RENAMED} {actual}"
        return ContainerSpec(digest=label(container, "digest"), port=port_of(container), state=state)

    def _lost(self, container: ListedContainer) -> list[str]:
        """The networks that a container should be on and is not, as after a crash while its names were moved.

        For a stopped one also those that were removed, and maybe made anew since: it could not be started.
        """
        endpoints = container["NetworkSettings"]["Networks"] or {}
        first = container["HostConfig"].get("NetworkMode", "")
        own = [] if first in NO_ALIASES or first.startswith("container:") else [first]
        said = (label(container, "staged") or label(container, "networks")).split(",")
        left = [name for name in (*own, *said) if name and name not in endpoints]
        if container["State"] == "running":
            return left
        known = {network["Id"] for network in self._engine.networks()} if endpoints else set()
        removed = [name for name, endpoint in endpoints.items() if endpoint.get("NetworkID", "") not in ("", *known)]
        return list(dict.fromkeys([*left, *removed]))

    def _rejoin(self, wanted: Resource, container: ListedContainer) -> None:
        """Attach a container to the networks of today; it keeps its layer and its volumes."""
        joined = service_of(wanted).endpoints(wanted.app)
        for name in self._lost(container):
            self._engine.disconnect(wanted.name, name)
            if name in joined:
                self._engine.connect(wanted.name, name, endpoint_body(joined[name]))

    # ---- deleting ----------------------------------------------------------------------------------------------------

    def _delete(self, container: ListedContainer, stay: Sequence[ListedContainer]) -> None:
        """Remove a container.  Its anonymous volumes go if others of its service `stay`, and do not use them.

        A service that is removed leaves its data behind: nobody has named it, and somebody may miss it.
        """
        self._engine.stop(container["Id"], ORPHAN_GRACE_SECONDS)
        self._engine.remove(container["Id"], volumes=False)
        if any(_owner(other) == _owner(container) for other in stay):
            used = {volume for other in stay for volume in _anonymous_volumes(other).values()}
            for volume in sorted(set(_anonymous_volumes(container).values()) - used):
                self._engine.remove_unused_volume(volume)


def _owner(container: ListedContainer) -> tuple[str, str]:
    return label(container, "app"), label(container, "service")


def _inherited(wanted: Resource, service: Service, containers: Mapping[str, ListedContainer]) -> Mapping[str, str]:
    """The anonymous volumes of the container whose place it takes, by their path; none if both are to run at once."""
    if service.update.order != "stop-first":
        return {}
    before = [
        container
        for name, container in containers.items()
        if _owner(container) == (wanted.app, wanted.service)
        and container["State"] in STARTED
        and name != wanted.name
        and _replica(name) == _replica(wanted.name)
    ]
    running = sorted(before, key=lambda container: (container["State"] == "running", container["Created"]))
    return _anonymous_volumes(running[-1]) if running else {}


def _replica(name: str) -> str:
    """The number of an instance among those of its service, from its name; "" for the first."""
    found = _REPLICA.search(name)
    return found[1] or "" if found else ""


def _anonymous_volumes(container: ListedContainer) -> dict[str, str]:
    """The volumes that nobody has named, by their path in the container."""
    mounts = container.get("Mounts") or ()
    named = ((mount["Destination"], mount.get("Name", "")) for mount in mounts if mount["Type"] == "volume")
    return {path: name for path, name in named if _ANONYMOUS.fullmatch(name)}


def _profiles(service: Service) -> Mapping[str, str]:
    """The seccomp profiles that a service names by their path on the host, as the client would read them."""
    found = {}
    for path in seccomp_profiles(service.run):
        try:
            found[path] = json.dumps(json.loads(Path(path).read_bytes()), separators=(",", ":"))
        except (OSError, ValueError) as error:
            raise StepFailed(f"{service.name}: cannot read the seccomp profile {path}: {error}") from error
    return found


def _secrets(folder: Path, service: Service) -> Mapping[str, str]:
    """What the environment refers to, by name, as it lies beside the env file of this version."""
    found = {}
    for number, name in enumerate(secrets_of_environment(service)):
        try:
            found[name] = as_text(name, (folder / "secrets" / str(number)).read_bytes())
        except OSError as error:
            raise Unavailable(f"{service.name}: cannot read {error.filename}: {error.strerror}") from error
    return found


def _refusal(value: object) -> str:
    """Why the engine would not take a value of a request as it is; "" if it does."""
    match value:
        case str():
            if "\0" in value:
                return "a value has a NUL character, which no process can be given"
            return "a value is not valid UTF-8" if re.search("[\ud800-\udfff]", value) else ""
        case dict():
            return next(filter(None, map(_refusal, (*value, *value.values()))), "")
        case list():
            return next(filter(None, map(_refusal, value)), "")
    return ""


def connect(tools: Tools) -> Containers:
    return Containers(tools)
