"""Images: pulled by digest, held by a local tag of ours, let go when nobody needs them.

Without a tag an image is dangling, and `docker image prune` takes it from under its unit; with `gitops-mvd.local/app:
<app>.<digest>` it stays, and the tag says whose it is.  The digest is that of the image's whole pinned name, because
one image may have come from several repositories.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Change, Resource, Role, digest
from gitops_mvd.core.ports import Clock
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools

OURS = "gitops-mvd.local/app:"
LOOK = 0.02  # seconds between two looks whether a pull is done


class Images:
    """`name` is the pinned reference, `payload` the tags as they were written and the platform that was asked for."""

    name = "image"
    after: tuple[str, ...] = ()
    role = Role.SUPPORT
    prunes = True
    keeps_previous = True

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def wanted(self, app: App) -> Iterator[Resource]:
        for image in sorted({service.image for service in app.services}):
            users = [service for service in app.services if service.image == image]
            tags = sorted({service.tag for service in users if service.tag and "@" not in service.tag})
            platform = next((service.run["platform"] for service in users if "platform" in service.run), "")
            yield Resource(self.name, image, app.name, payload={"tags": tags, "platform": platform})

    def observe(self) -> Iterator[Resource]:
        for image in self._engine.images():
            for tag in image["RepoTags"] or ():
                if tag.startswith(OURS):
                    app = tag.removeprefix(OURS).rpartition(".")[0]
                    names = [*(image["RepoDigests"] or ()), image["Id"]]
                    # where its own name was taken from it by hand, the tag alone is left, and to be cleaned up
                    yield Resource(self.name, next((name for name in names if _tag(app, name) == tag), tag), app)

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.to:
                self._hold(change.to)
            else:
                self._let_go(change.resource)

    def _hold(self, image: Resource) -> None:
        """Pull it, and tag it: as ours, and as it was written, so that `pull_policy: missing` finds it by that."""
        known = image.payload or {"tags": (), "platform": ""}
        if not image.name.startswith("sha256:"):
            self._pull(image.name, known["platform"])
        elif not self._engine.has(image.name):
            raise StepFailed(f"image {image.name} is gone from this host, and no registry has it")
        for tag in (_tag(image.app, image.name), *known["tags"]):
            self._engine.tag(image.name, tag)

    def _pull(self, name: str, platform: str) -> None:
        """Pull it.  Where something newer comes up, the pull is not waited for, and goes on for who needs it next."""
        if self._engine.has(name):
            return
        pulled: Future[None] = Future()

        def pull() -> None:
            try:
                self._engine.pull(name, platform)
            except BaseException as error:
                pulled.set_exception(error)
            else:
                pulled.set_result(None)

        threading.Thread(target=pull, name="pull", daemon=True).start()
        while not pulled.done():
            self._clock.wait(LOOK)
        pulled.result()

    def _let_go(self, image: Resource) -> None:
        """Untag it, and remove it if we pulled it and nobody else has a name or a container of it."""
        if image not in self.observe():  # untagged by hand, or made whole again
            return
        ours = image.name if image.name.startswith(OURS) else _tag(image.app, image.name)
        for found in self._engine.images():
            tags: Iterable[str] = found["RepoTags"] or ()
            if ours in tags:
                self._engine.remove_image(ours)
                if "@" in image.name and not any(tag.startswith(OURS) for tag in tags if tag != ours):
                    self._engine.remove_image(found["Id"])


def _tag(app: str, name: str) -> str:
    return f"{OURS}{app}.{digest(name)[:12]}"


def connect(tools: Tools) -> Images:
    return Images(tools.engine, tools.clock)
