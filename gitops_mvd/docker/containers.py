"""The containers of an engine: listed, inspected, asked and removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

from docker.errors import NotFound

from gitops_mvd.core.model import Instance
from gitops_mvd.docker import container as one
from gitops_mvd.docker.answers import APP, inspected, listed, names
from gitops_mvd.docker.connection import Connection, root
from gitops_mvd.docker.container import Ran
from gitops_mvd.docker.types import InspectedContainer, ListedContainer


class ContainerApi(Connection):
    """`GET /containers/json` and `/containers/{name}`."""

    def containers(self) -> Sequence[ListedContainer]:
        """The managed containers in any state, as `GET /containers/json` has them: one call, however many they are."""
        if seen := getattr(self.local, "containers", None):
            return cast(Sequence[ListedContainer], seen)
        with self.asking("list the containers") as api:
            listing = cast(Sequence[ListedContainer], api.containers(all=True, filters={"label": [APP]}))
        if hasattr(self.local, "containers"):
            self.local.containers = listing
        return listing

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

    def instances(self) -> dict[str, Instance]:
        """The managed containers by name.  The listing knows no start: `started` is the time they were created."""
        named = (container for container in self.containers() if container["Names"])  # one being removed has none left
        return {instance.name: instance for instance in map(listed, named)}

    def instance(self, name: str) -> Instance | None:
        """One container exactly as it is now, None if there is none of exactly that name."""
        with self.asking(f"inspect container {name}") as api:
            try:
                found = cast(InspectedContainer, api.inspect_container(name))
            except NotFound:
                return None
        return inspected(found) if found["Name"] == f"/{name}" else None

    def exit_code(self, container: str, ago: float) -> int | None:
        """With what a container of that name ended in the last so many seconds, even if it is gone; else None."""
        with self.asking(f"look for the end of container {container}") as api:
            return one.exit_code(api, root(api), container, ago)

    def aliases(self, container: str) -> dict[str, list[str]]:
        """The aliases of a container by network; empty if there is no such container."""
        with self.asking(f"inspect container {container}") as api, suppress(NotFound):
            return names(cast(InspectedContainer, api.inspect_container(container)))
        return {}

    def remove(self, container: str) -> None:
        """Stop and remove a container with its anonymous volumes; one that does not exist is fine."""
        with self.asking(f"remove container {container}") as api, suppress(NotFound):
            api.remove_container(container, v=True, force=True)

    def execute(self, container: str, command: Sequence[str], within: float) -> Ran:
        """Run a command in a container; one that does not end within so many seconds is killed where that can be."""
        with self.asking(f"run a command in container {container}") as api:
            return one.execute(api, root(api), container, command, within)

    def modified(self, container: str, path: str, within: float) -> float | None:
        """When a file in a container was last modified, in Unix time; None if there is no such file."""
        with self.asking(f"look for {path} in container {container}") as api:
            return one.modified(api, root(api), container, path, within)
