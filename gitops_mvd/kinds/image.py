"""`image`: pulled by digest, kept by a local tag, and let go when no app needs it.

Without a tag an image is dangling, and `docker image prune` takes it from under its unit; with `gitops-mvd.local/app:
<app>.<digest>` it stays, and the tag says whose it is.  The digest is that of the image's whole pinned name, because
one image may have come from several repositories.  An image that was here already, pulled or built by hand, has
`gitops-mvd.local/found:` in front instead, and is never removed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.model import App, Change, Resource, Role, digest
from gitops_mvd.core.ports import Clock
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.types import ListedImage
from gitops_mvd.kinds import Tools

PULLED, FOUND = "gitops-mvd.local/app:", "gitops-mvd.local/found:"
PULL_CHECK_SECONDS = 0.02  # between two questions whether a pull is done


@dataclass(frozen=True, slots=True)
class Source:
    """What an image is asked for by: the tags as they were written, and the platform."""

    tags: Sequence[str] = ()
    platform: str = ""


class Images:
    """`name` is the pinned reference, `payload` of a wanted one its Source."""

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
            yield Resource(self.name, image, app.name, payload=Source(tags, platform))

    def observe(self) -> Iterator[Resource]:
        for image in self._engine.images():
            held = {tag.partition(":")[2]: tag for tag in _held(image)}
            for kept_for, tag in held.items():
                app = kept_for.rpartition(".")[0]
                names = [*(image["RepoDigests"] or ()), image["Id"]]
                # if its own name was taken from it by hand, the tag alone is left, and is to be cleaned up
                yield Resource(self.name, next((name for name in names if keeper(app, name) == kept_for), tag), app)

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.to:
                self._hold(change.to)
            else:
                self._let_go(change.resource)

    def _hold(self, image: Resource) -> None:
        """Pull it, and tag it: locally, and as it was written, so that `pull_policy: missing` finds it by that."""
        source = image.payload if isinstance(image.payload, Source) else Source()
        if not image.name.startswith("sha256:"):
            self._pull(image, source.platform)
        elif not self._engine.has(image.name):
            raise NotNow(
                f"image {image.name} is not on this host any more, and no registry has it: build or load it again"
            )
        here = (it for it in self._engine.images() if image.name in (it["Id"], *(it["RepoDigests"] or ())))
        prefix = PULLED if any(tag.startswith(PULLED) for it in here for tag in _held(it)) else FOUND
        for tag in (f"{prefix}{keeper(image.app, image.name)}", *source.tags):
            self._engine.tag(image.name, tag)

    def _pull(self, image: Resource, platform: str) -> None:
        """Pull it.  If something newer interrupts, the pull is not waited for, and goes on for who needs it next."""
        if self._engine.has(image.name):
            return
        pulled: Future[None] = Future()

        def pull() -> None:
            try:
                self._engine.pull(image.name, platform)
                self._engine.tag(image.name, f"{PULLED}{keeper(image.app, image.name)}")
            except BaseException as error:
                pulled.set_exception(error)
            else:
                pulled.set_result(None)

        threading.Thread(target=pull, name="pull", daemon=True).start()
        while not pulled.done():
            self._clock.wait(PULL_CHECK_SECONDS)
        pulled.result()

    def _let_go(self, image: Resource) -> None:
        """Untag it, and remove it if it was pulled here and has no other name and no container."""
        if image not in self.observe():  # untagged by hand, or made whole again
            return
        is_tag = image.name.startswith((PULLED, FOUND))
        kept_for = image.name.partition(":")[2] if is_tag else keeper(image.app, image.name)
        own = {f"{prefix}{kept_for}" for prefix in (PULLED, FOUND)}
        for found in self._engine.images():
            held = set(_held(found))
            for tag in held & own:
                self._engine.remove_image(tag)
            if held and held <= own and any(tag.startswith(PULLED) for tag in held) and "@" in image.name:
                self._engine.remove_image(found["Id"])


def _held(image: ListedImage) -> list[str]:
    """The tags by which apps hold an image."""
    return [tag for tag in image["RepoTags"] or () if tag.startswith((PULLED, FOUND))]


def keeper(app: str, name: str) -> str:
    """What stands behind the prefix in the tag that keeps an image for an app, by its pinned name."""
    return f"{app}.{digest(name)[:12]}"


def connect(tools: Tools) -> Images:
    return Images(tools.engine, tools.clock)
