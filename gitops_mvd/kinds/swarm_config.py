"""`swarm_config`: a file of the repository that tasks of a Swarm mount, named after its content and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Resource, Role
from gitops_mvd.core.specs import DigestSpec
from gitops_mvd.docker.answers import APP, DIGEST
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.docker.swarm_request import config_name, configs_of, content_digest
from gitops_mvd.kinds import Tools


class SwarmConfigs:
    """`spec` has the digest of the content, `payload` of a wanted one the content; of one that was found it is None."""

    name = "swarm_config"
    after: tuple[str, ...] = ()
    role = Role.SUPPORT
    prunes = True
    keeps_previous = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wanted(self, app: App) -> Iterable[Resource]:
        contents = {file.content for service in app.services for file in configs_of(service)}
        for content in sorted(contents):
            spec = DigestSpec(digest=content_digest(content))
            yield Resource(self.name, config_name(app.name, content), app.name, spec=spec, payload=content)

    def observe(self) -> Iterable[Resource]:
        for config in self._manager().configs():
            labels = config["Spec"]["Labels"] or {}
            digest = labels.get(DIGEST, "")
            if APP in labels and config["Spec"]["Name"] == f"mvd-{labels[APP]}-{digest[:16]}":
                yield Resource(
                    self.name, config["Spec"]["Name"], labels[APP], spec=DigestSpec(digest=digest), payload=None
                )

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        manager = self._manager()
        there = {resource.name for resource in self.observe()}
        for change in changes:
            if not change.to:
                if change.resource.name in there:
                    manager.remove_config(change.resource.name)
            elif change.to.name not in there:
                if not isinstance(change.to.payload, str):
                    raise StepFailed(f"config {change.to.name} is gone, and its content is not known")
                labels = {APP: change.to.app, DIGEST: content_digest(change.to.payload)}
                manager.create_config(change.to.name, change.to.payload, labels)

    def _manager(self) -> Manager:
        if not isinstance(self._engine, Manager):
            raise Unavailable("this host is no Swarm", "set `swarm` in its settings")
        return self._engine


def connect(tools: Tools) -> SwarmConfigs:
    return SwarmConfigs(tools.engine)
