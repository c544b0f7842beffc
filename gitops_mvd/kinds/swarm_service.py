"""`swarm_service`: a version of a service on a Swarm, as one service of it that is never updated.

A new version is a new one beside it, so that gates, the switch of the route, drain and rollback are those of a plain
host, and neither Swarm's virtual addresses nor its rolling update have a part in it.  Where its tasks are, and that
they come back, is Swarm's to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gitops_mvd.core.claims import VOLUME, of_service
from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import RUNNING, App, Change, Resource, Role, Service
from gitops_mvd.core.specs import Joined, UnitSpec, secrets_of_environment, service_of
from gitops_mvd.docker.swarm import Manager, Running
from gitops_mvd.docker.swarm_request import KEPT, request
from gitops_mvd.kinds import Tools
from gitops_mvd.secrets.store import as_text

REMOVED_WITHIN_SECONDS = 60.0  # beyond the grace period
LOOK_SECONDS = 0.2  # between two looks whether its tasks have ended
SCALED = "scaled by hand to {0}, and not {1}"  # state of one that somebody has changed


class SwarmServices:
    """The `payload` of a wanted one is its Service, that of a found one what it has (`Joined`)."""

    name = "swarm_service"
    after = ("network", "swarm_file")
    role = Role.INSTANCE
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._manager = tools.engine

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            if not service.swarm:  # a version that was stored when this host was none
                raise StepFailed(f"{service.name} is not made for a Swarm")
            port = service.kong["port"] if service.kong else 0
            spec = UnitSpec(digest=service.digest, port=port, state=RUNNING, grace=service.stop_grace)
            yield Resource(self.name, service.instances(app.name)[0], app.name, service.name, spec, service)

    def observe(self) -> Iterable[Resource]:
        for name, found in self._manager_of().services().items():
            has = Joined(frozenset(), found.id, found.claims)
            yield Resource(self.name, name, found.labels["app"], found.labels.get("service", ""), _spec(found), has)

    def prepare(self, changes: Sequence[Change]) -> None:
        """Refuse what could not be made.  Only the Swarm knows of a node for it, and says so at the gate."""
        for change in changes:
            if change.to and isinstance(change.to.payload, Service):
                self._require_possible(service_of(change.to))

    def apply(self, changes: Sequence[Change]) -> None:
        manager = self._manager_of()
        for change in changes:
            found = manager.service(change.resource.name)
            if found and (not change.to or _spec(found) != change.to.spec):
                self._remove(manager, found)
                found = None
            if change.to and not found:
                self._create(manager, change.to)

    def _create(self, manager: Manager, wanted: Resource) -> None:
        if isinstance(wanted.payload, Joined):
            raise StepFailed(f"service {wanted.name} is gone, and what it was made of is not known")
        service = service_of(wanted)
        secrets = self._require_possible(service)
        revision = self._tools.commit_of(wanted.app, wanted.name)
        kept = (it for what in KEPT for it in manager.kept(what)) if service.files else ()
        ids = {it["Spec"]["Name"]: it["ID"] for it in kept}
        journal = manager.writes_journal()
        try:
            body = request(wanted.app, service, revision, journal=journal, ids=ids, secrets=secrets)
        except KeyError as error:
            raise StepFailed(f"{wanted.service}: no service can be made of it: {error}") from error
        if volumes := {claim.name for claim in of_service(wanted.app, service) if claim.kind == VOLUME}:
            # A node that is gone may still run it, and a daemon may have ended before its task did.
            why = f"{wanted.service}: a task that was removed may still write to {', '.join(sorted(volumes))}"
            self._wait(
                lambda: manager.left_to(volumes), 0.0, why, "docker node ls: bring its node back, or remove that"
            )
        manager.create_service(wanted.name, service.image, body)

    def _require_possible(self, service: Service) -> Mapping[str, str]:
        """The secrets that its environment refers to, by name.  Raises StepFailed or Unavailable."""
        if service.image.startswith("sha256:"):
            raise StepFailed(
                f"{service.name}: the image {service.tag or service.image} is on this node alone",
                "push it to a registry, from which the other nodes can pull it",
            )
        content, digests = self._tools.secrets.content, service.secrets
        return {name: as_text(name, content(name, digests[name])) for name in secrets_of_environment(service)}

    def _remove(self, manager: Manager, found: Running) -> None:
        """Remove it, and wait until its tasks have ended: until then they have their ports and networks."""
        manager.remove_service(found.id)
        hint = f"docker service ps {found.name}"
        grace = float(found.labels.get("grace", "10"))
        self._wait(lambda: manager.has_tasks(found.id), grace, f"the tasks of {found.name} have not ended", hint)

    def _wait(self, others: Callable[[], object], grace: float, why: str, hint: str) -> None:
        """Wait as long as there are others.  Raises NotNow with `why` if they do not end."""
        ends = self._tools.clock.now() + grace + REMOVED_WITHIN_SECONDS
        while others():
            if self._tools.clock.now() > ends:
                raise NotNow(why, hint)
            self._tools.clock.wait(LOOK_SECONDS)

    def _manager_of(self) -> Manager:
        if not isinstance(self._manager, Manager):
            raise Unavailable("this host is no Swarm", "set `swarm` in its settings")
        return self._manager


def _spec(found: Running) -> UnitSpec:
    """As the labels have it, which nobody changes by hand; `wanted` knows nothing of tasks, which come and go."""
    port, grace = found.labels.get("port", "0"), found.labels.get("grace", "10")
    asked = found.labels.get("replicas", "")
    state = RUNNING if asked in ("", str(found.replicas)) else SCALED.format(found.replicas, asked)
    return UnitSpec(
        digest=found.labels["digest"], port=int(port) if port.isdecimal() else 0, state=state, grace=float(grace)
    )


def connect(tools: Tools) -> SwarmServices:
    return SwarmServices(tools)
