"""What was found on this machine, once for a whole pass; an app that was changed since is looked at again."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Instance, Resource, Role, Roles
from gitops_mvd.core.plan import of_role
from gitops_mvd.core.ports import Kind
from gitops_mvd.docker.client import Engine


class Snapshot:
    """The managed resources and instances, by app.  Several threads may read it, each about an app of its own."""

    def __init__(self, kinds: Mapping[str, Kind], roles: Roles, engine: Engine) -> None:
        self._kinds = kinds
        self._roles = roles
        self._engine = engine
        self._found: dict[str, tuple[Resource, ...]] = {}
        self._instances: Mapping[str, list[Instance]] = {}
        self._blind: Mapping[str, Unavailable] = {}
        self._refused: dict[Instance, str] = {}  # why each was not started, as far as somebody asked for it
        self._changed: set[str] = set()
        self._lock = threading.Lock()
        self.is_routed = False  # did Kong have anything managed?
        self.taken = 0.0  # Unix time
        self.is_there = False  # was everything observed once, at least?

    def refresh(self) -> None:
        """Observe everything.  Raises Unavailable if Docker or systemd does not answer.

        A kind that no other kind needs, as routes while Kong is down, holds up only the apps that need it: Kong itself
        may be one of the others.
        """
        self.taken = time.time()
        with self._engine.snapshot():
            found, blind = self._observe()
            self._instances = self._look_at_instances()
        with self._lock:
            self._found, self._blind, self._changed, self._refused = found, blind, set(), {}
        self.is_there = True
        self.is_routed = bool(of_role(Role.ROUTE, self.everything(), self._roles))

    def mark_changed(self, app: str) -> None:
        """From now on nothing that was found of that app counts."""
        with self._lock:
            self._changed.add(app)
            self._refused = {}

    def found(self, app: str) -> tuple[Resource, ...]:
        """The resources of an app as they are now.  Raises Unavailable."""
        with self._lock:
            is_current = app not in self._changed
            if is_current:
                return self._found.get(app, ())
        found, blind = self._observe()
        with self._lock:
            self._found[app], self._blind = found.get(app, ()), blind
            self._changed.discard(app)
            return self._found[app]

    def last_found(self, app: str) -> tuple[Resource, ...]:
        """The resources of an app as they were when somebody looked last."""
        with self._lock:
            return self._found.get(app, ())

    def instances(self, app: str) -> Sequence[Instance]:
        """The containers of an app as they are now.  Raises Unavailable."""
        if app not in self._changed:
            return self._instances.get(app, ())
        return list(self._engine.instances(app).values())

    def every_instance(self) -> Mapping[str, Sequence[Instance]]:
        """The containers of every app as they are now, by app.  Raises Unavailable."""
        return self._look_at_instances() if self._changed else self._instances

    def refused(self, instance: Instance) -> str:
        """Why the engine has not started a container, which no listing says; "" if it has, or does not answer.

        The engine is asked once for each container until the next look, however many want to know.
        """
        known = self._refused  # another one as soon as what is asked here may be old
        if instance not in known:
            with suppress(Unavailable):
                found = self._engine.instance(instance.name)
                known[instance] = found.refused if found else ""
        return known.get(instance, "")

    def everything(self) -> list[Resource]:
        """All that was found of every app."""
        with self._lock:
            return [resource for resources in self._found.values() for resource in resources]

    def apps(self) -> list[str]:
        """Who owns something here that goes when it is no longer wanted."""
        with self._lock:
            return [app for app, found in self._found.items() if any(self._kinds[r.kind].prunes for r in found)]

    def require(self, kinds: set[str]) -> None:
        """Raise Unavailable if one of these kinds could not be observed."""
        for kind in kinds & self._blind.keys():
            raise Unavailable(self._blind[kind].message, self._blind[kind].hint)

    def _observe(self) -> tuple[dict[str, tuple[Resource, ...]], Mapping[str, Unavailable]]:
        by_app: dict[str, list[Resource]] = defaultdict(list)
        blind = {}
        for kind in self._kinds.values():
            try:
                for resource in kind.observe():
                    by_app[resource.app].append(resource)
            except Unavailable as error:
                if any(kind.name in other.after for other in self._kinds.values()):
                    raise
                blind[kind.name] = error
        return {app: tuple(resources) for app, resources in by_app.items()}, blind

    def _look_at_instances(self) -> Mapping[str, list[Instance]]:
        by_app: dict[str, list[Instance]] = defaultdict(list)
        for instance in self._engine.instances().values():
            by_app[instance.app].append(instance)
        return by_app
