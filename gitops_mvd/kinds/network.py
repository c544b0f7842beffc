"""`network`: named after what it is, so that a changed one is a new one beside the old."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Change, Resource, Role, digest
from gitops_mvd.core.specs import DigestSpec, Made, Pools, WithContainer, digest_spec
from gitops_mvd.docker.answers import APP, DIGEST
from gitops_mvd.docker.claims import subnets
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.docker.types import ListedNetwork
from gitops_mvd.kinds import Tools


class Networks:
    """`spec` has the digest of the options, `payload` the options in Compose's words; external ones are not managed."""

    name = "network"
    after: tuple[str, ...] = ()
    role = Role.SUPPORT
    prunes = True
    keeps_previous = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # A service of a Swarm is made on its networks, of which there is one for each app.
        self._default = Made if isinstance(engine, Manager) else WithContainer

    def wanted(self, app: App) -> Iterator[Resource]:
        for name, options in app.all_networks.items():
            if not options.get("external"):
                payload = (Made if name in app.networks else self._default)(options)
                yield Resource(self.name, name, app.name, spec=DigestSpec(digest=digest(options)), payload=payload)

    def observe(self) -> Iterator[Resource]:
        return filter(None, map(self._resource, self._engine.networks()))

    def _resource(self, network: ListedNetwork) -> Resource | None:
        labels = network["Labels"] or {}
        if APP not in labels:
            return None
        spec = DigestSpec(digest=labels.get(DIGEST, ""))
        return Resource(self.name, network["Name"], labels[APP], spec=spec, payload=Pools(subnets(network)))

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._apply(change.resource, change.to)

    def _apply(self, network: Resource, wanted: Resource | None) -> None:
        """By their ids, as an engine may have several networks of one name: one of them may be of somebody else."""
        there = [it for it in self._engine.networks() if it["Name"] == network.name]
        found = {it["Id"]: resource for it in there if (resource := self._resource(it))}
        if maker := next((it.app for it in found.values() if it.app != network.app), ""):
            raise StepFailed(f"network {network.name} was made for the app {maker}", "give it another name")
        for id, resource in found.items():
            if resource != wanted:
                self._engine.remove_network(id)  # refused while a container is on it
        if wanted and wanted not in found.values():
            if not isinstance(wanted.payload, Made):
                raise StepFailed(f"network {network.name} is gone, and its options are not known")
            labels = {APP: network.app, DIGEST: digest_spec(network)["digest"]}
            self._engine.create_network(network.name, wanted.payload.options, labels)


def connect(tools: Tools) -> Networks:
    return Networks(tools.engine)
