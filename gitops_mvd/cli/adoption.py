"""`mvd adopt`: what the repository declares and this server has already becomes the app's.

In this server's Kong it becomes managed, while the daemon changes nothing.  To the daemon, a half-done adoption would
look like a version that clashes, and its way back from that would delete what was adopted.  So nothing else changes
this server meanwhile, and the history forgets the last good versions of the apps concerned: from then on the way back
is what is found there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Desired
from gitops_mvd.core.ports import Kind
from gitops_mvd.daemon.preview import desired
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.kinds import discover
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.entities import entities_of
from gitops_mvd.kong.migrate.adopt import Adoptions, plan
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.lock import Taken, alone

SUSPENDED_BY = "mvd adopt"
MAX_PASSES = 5  # of the daemon, that may end before it has seen that it is suspended


@dataclass(frozen=True)
class Preview:
    """What would be adopted on this host at a revision; `broken` are the apps that cannot be read, with the reason."""

    desired: Desired = field(repr=False)
    adoptions: Adoptions

    @property
    def broken(self) -> Mapping[str, str]:
        return {name: str(problems[0]) for name, problems in self.desired.broken.items()}


@dataclass(frozen=True, kw_only=True)
class Adopter:
    """Adopts in the Kong of one host; `routes` is the kind, `settings` the file of the settings."""

    host: str
    kong: Kong
    routes: Kind
    history: SqliteHistory
    settings: Path
    state: Path

    def preview(self, desired: Desired) -> Preview:
        """Raises Unavailable if Kong does not answer, StepFailed if it is shared."""
        if self.kong.shared:
            hint = "rename one of the clashing entities, or delete the one in Kong"
            raise StepFailed("nothing can be adopted in a Kong that several servers share", hint)
        wanted = (resource for app in desired.apps for resource in self.routes.wanted(app))
        declared = [entity for resource in wanted for entity in entities_of(resource)]
        return Preview(desired, plan(self.host, declared, self.kong.all(), Schemas(self.kong.schema)))

    def adopt(self, shown: Preview) -> None:
        """Adopt what was shown, if that is still what there is.  Raises Unavailable or StepFailed.

        After a failure everything serves, a part of it adopted, and to adopt again does the rest.
        """
        with self.alone():
            adoptions = self.preview(shown.desired).adoptions
            if adoptions != shown.adoptions:
                raise StepFailed("Kong has changed since it was shown", "run `mvd adopt` again")
            for app in {adoption.entity.owner[0] for adoption in adoptions.adopted}:
                self.history.clear_failure(app)
                self.history.forget(app)
            self.kong.adopt(self.host, [adoption.entity for adoption in adoptions.adopted])

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing is deployed meanwhile: no daemon runs, or it is suspended and no pass of it is under way."""
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(self.state))
            except Taken as daemon:
                stack.enter_context(self._suspended(daemon))
            yield

    @contextmanager
    def _suspended(self, daemon: Taken) -> Iterator[None]:
        found = suspension.suspended(self.settings).host
        is_by_others = found is not None and found.by != SUSPENDED_BY
        if not is_by_others:
            ours = suspension.Suspension(SUSPENDED_BY, "it is at work", suspension.now())
            suspension.suspend(self.settings, ours)
        try:
            self._wait_until_idle(daemon)
            yield
        finally:
            if not is_by_others:
                suspension.resume(self.settings)

    def _wait_until_idle(self, daemon: Taken) -> None:
        """Wait until the daemon reports that it is suspended."""
        for _ in range(MAX_PASSES):
            try:
                daemon.sync(self.history)
            except Unavailable as error:
                if suspension.SUSPENDED in error.message:
                    return
                raise
        raise Unavailable("the daemon goes on though it is suspended", "run `mvd suspend`, and try again")


class Adopted(NamedTuple):
    """A network or volume of this host and the app that uses it; `is_managed` if it was made for that app as it is."""

    kind: str
    name: str
    app: str
    is_managed: bool


def adopt_existing(wired: Wired, kind: str, name: str, app: str) -> Adopted:
    """Give a network or volume that this host has to the app that declares it, which must be `app` unless that is "".

    Neither can be given a label, so the history has a record.  Without that, it is used all the same and noted again.
    Raises StepFailed or Unavailable.
    """
    resources = discover(wired.tools)[kind]
    wanted = next(
        (it for one in desired(wired, fetch=True).apps for it in resources.wanted(one) if it.name == name), None
    )
    if not wanted:
        raise StepFailed(f"no app of this host declares the {kind} {name}", f"its real name is meant: docker {kind} ls")
    if app not in ("", wanted.app):
        raise StepFailed(f"{app} does not declare the {kind} {name}", f"{wanted.app} does")
    if name not in {it["Name"] for it in (wired.engine.volumes() if kind == "volume" else wired.engine.networks())}:
        raise StepFailed(f"this host has no {kind} {name}", "the next sync makes it")
    found = [it for it in resources.observe() if it.name == name]
    is_managed = wanted in found
    if kind == "network" and not is_managed and found:
        raise StepFailed(
            f"network {name} was made for the app {found[0].app}, and goes with it", "give it another name"
        )
    if not is_managed:
        wired.history.adopt(kind, name, wanted.app)
    return Adopted(kind, name, wanted.app, is_managed)
