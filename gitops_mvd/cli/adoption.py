"""`mvd adopt`: what of this server's Kong the repository declares becomes ours, while the daemon stands still.

Half of it done would look to the daemon like a version that clashes, and its way back from that like the removal of
what has just become ours.  So nothing else is at work meanwhile, and of the apps concerned the history forgets what
was good before: from then on the way back is what is found there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Desired
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.kinds import route
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.entities import tagged
from gitops_mvd.kong.migrate.adopt import Adoption, Adoptions, plan
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.lock import Taken, alone

WHY = "mvd adopt is at work"
PASSES = 5  # of the daemon, that may end before it has seen that it is suspended


@dataclass(frozen=True)
class Takeover:
    """What would be adopted on this host at a revision; `broken` are the apps that can not be read."""

    desired: Desired = field(repr=False)
    adoptions: Adoptions

    @property
    def broken(self) -> Mapping[str, str]:
        return {name: str(problems[0]) for name, problems in self.desired.broken.items()}


def look(wired: Wired, desired: Desired) -> Takeover:
    """Raises Unavailable where there is no Kong, or it does not answer, StepFailed where it is shared."""
    kong = kong_of(wired)
    if kong.shared:
        raise StepFailed(
            "nothing is adopted in a Kong that servers share", "rename one of the two, or delete that in Kong"
        )
    routes = route.connect(wired.tools)
    declared = [entity for app in desired.apps for resource in routes.wanted(app) for entity in resource.payload]
    return Takeover(desired, plan(wired.host.name, declared, kong.all(), Schemas(kong.schema)))


def take_over(wired: Wired, shown: Takeover) -> None:
    """Adopt what was shown, if that is still what there is.  Raises Unavailable or StepFailed.

    A failure leaves everything serving, a part of it adopted, and to do it again does the rest.
    """
    kong, history = kong_of(wired), wired.history
    with standing_still(wired.settings_path, Path(wired.settings.state), history):
        adoptions = look(wired, shown.desired).adoptions
        if adoptions != shown.adoptions:
            raise StepFailed("Kong was changed while you were reading", "`mvd adopt` shows what it would be now")
        for app in {app_of(adoption) for adoption in adoptions.adopted}:
            history.clear_failure(app)
            history.forget(app)
        kong.adopt(wired.host.name, [adoption.entity for adoption in adoptions.adopted])


def app_of(adoption: Adoption) -> str:
    return tagged(adoption.entity.tags, "app")


def kong_of(wired: Wired) -> Kong:
    if not wired.tools.kong:
        raise Unavailable("this host has no gateway", "set `kong` in its settings")
    return wired.tools.kong


@contextmanager
def standing_still(settings: Path, state: Path, history: SqliteHistory) -> Iterator[None]:
    """Nothing is deployed meanwhile: the daemon does not run, or is suspended, and no pass of it is under way."""
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(state))
        except Taken as daemon:
            stack.enter_context(_suspended(settings, daemon, history))
        yield


@contextmanager
def _suspended(settings: Path, daemon: Taken, history: SqliteHistory) -> Iterator[None]:
    theirs = suspension.reason(settings) not in ("", WHY)
    if not theirs:
        suspension.suspend(settings, WHY)
    try:
        _wait_for(daemon, history)
        yield
    finally:
        if not theirs:
            suspension.resume(settings)


def _wait_for(daemon: Taken, history: SqliteHistory) -> None:
    """Until the daemon says that it does nothing."""
    for _ in range(PASSES):
        try:
            daemon.sync(history)
        except Unavailable as error:
            if "this server is suspended" in error.message:
                return
            raise
    raise Unavailable("the daemon goes on, though it is suspended", "`mvd suspend`, and try it again")
