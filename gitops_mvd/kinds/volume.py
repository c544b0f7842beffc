"""`volume`: made if it is missing, and never removed unless somebody names it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from gitops_mvd.core.compose import Volume
from gitops_mvd.core.errors import NotNow, StepFailed
from gitops_mvd.core.model import App, Change, Resource, Role, digest
from gitops_mvd.core.specs import DigestSpec, digest_spec
from gitops_mvd.docker.answers import APP, DIGEST
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools


class Volumes:
    """`spec` has the digest of the options, `payload` the options in Compose's words; external ones are not managed."""

    name = "volume"
    after: tuple[str, ...] = ()
    role = Role.DATA
    prunes = False
    keeps_previous = False

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wanted(self, app: App) -> Iterator[Resource]:
        for name, options in app.volumes.items():
            if not options.get("external"):
                yield Resource(self.name, name, app.name, spec=DigestSpec(digest=digest(options)), payload=options)

    def observe(self) -> Iterator[Resource]:
        for volume in self._engine.volumes():
            labels = volume["Labels"] or {}
            if APP in labels:
                yield Resource(self.name, volume["Name"], labels[APP], spec=DigestSpec(digest=labels.get(DIGEST, "")))

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            volume = change.resource
            found = next((other for other in self.observe() if other.key == volume.key), None)
            if found and not change.to:
                self._engine.remove_volume(volume.name)  # refused while a container has it
            elif found and change.to and found != change.to:
                _require_usable(found, change.to)
            elif change.to and not found:
                self._create(change.to)

    def _create(self, volume: Resource) -> None:
        if any(it["Name"] == volume.name for it in self._engine.volumes()):  # Docker would take it as if just made
            raise NotNow(
                f"volume {volume.name} came up a moment ago, and was not made by gitops-mvd",
                "the next sync uses it as it is",
            )
        if volume.payload is None:
            raise StepFailed(f"volume {volume.name} is gone, and its options are not known")
        labels = {APP: volume.app, DIGEST: digest_spec(volume)["digest"]}
        self._engine.create_volume(volume.name, cast(Volume, volume.payload), labels)


def _require_usable(found: Resource, wanted: Resource) -> None:
    """Raise StepFailed if a volume of the app was made with other options.  It is never changed."""
    if found.app == wanted.app:
        raise StepFailed(
            f"volume {found.name} was made with other options, which cannot be changed without its data",
            f"`mvd adopt volume {found.name}` uses it as it is; or give it another name, or remove it yourself",
        )


def connect(tools: Tools) -> Volumes:
    return Volumes(tools.engine)
