"""`swarm_file`: a file that tasks of a Swarm mount, named after its content and never changed.

One of the repository is a config of the Swarm, and one that is a secret is a secret of it.  The Swarm brings them to
the nodes that tasks are on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import LABEL, App, Change, Resource, Role
from gitops_mvd.core.specs import DigestSpec
from gitops_mvd.docker.answers import APP, DIGEST
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.docker.swarm_request import KEPT, Kept, Mounted, encoded, kept_name, mounted_by
from gitops_mvd.kinds import Tools

SECRET = f"{LABEL}secret"  # a label: what the secret is called, for people


class SwarmFiles:
    """`spec` has the digest that it is named after, `payload` what is mounted (`Mounted`), None of one that was found.

    No two have the same name: not even a config and a secret, as the digest of a secret is made with a key.
    """

    name = "swarm_file"
    after: tuple[str, ...] = ()
    role = Role.SUPPORT
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._engine = tools.engine
        self._secrets = tools.secrets

    def wanted(self, app: App) -> Iterable[Resource]:
        by_key = {it.key: it for service in app.services for it in mounted_by(service)}
        for key, it in sorted(by_key.items()):
            yield Resource(self.name, it.name(app.name), app.name, spec=DigestSpec(digest=key), payload=it)

    def observe(self) -> Iterable[Resource]:
        return [resource for resource, _ in self._found(self._manager())]

    def _found(self, manager: Manager) -> Iterable[tuple[Resource, Kept]]:
        for what in KEPT:
            for kept in manager.kept(what):
                labels = kept["Spec"]["Labels"] or {}
                app, key, name = labels.get(APP, ""), labels.get(DIGEST, ""), kept["Spec"]["Name"]
                if name == kept_name(app, key):
                    yield Resource(self.name, name, app, spec=DigestSpec(digest=key), payload=None), what

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        manager = self._manager()
        there = {resource.name: what for resource, what in self._found(manager)}
        for change in changes:
            if not change.to:
                if what := there.get(change.resource.name):
                    manager.drop(what, change.resource.name)
            elif change.to.name not in there:
                it = change.to.payload
                if not isinstance(it, Mounted):
                    raise StepFailed(f"{change.to.name} is gone, and its content is not known")
                labels = {APP: change.to.app, DIGEST: it.key} | ({SECRET: it.source} if it.what == "secret" else {})
                manager.keep(it.what, change.to.name, self._content(it), labels)

    def _content(self, it: Mounted) -> bytes:
        """Raises Unavailable for a secret that has changed since."""
        return self._secrets.content(it.source, it.digest) if it.what == "secret" else encoded(it.source)

    def _manager(self) -> Manager:
        if not isinstance(self._engine, Manager):
            raise Unavailable("this host is no Swarm", "set `swarm` in its settings")
        return self._engine


def connect(tools: Tools) -> SwarmFiles:
    return SwarmFiles(tools)
