"""The protocols between the rooms, with their laws.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gitops_mvd.core.canary import Numbers
from gitops_mvd.core.model import (
    App,
    Change,
    CommitStatus,
    Event,
    Failure,
    Goal,
    Health,
    Instance,
    Json,
    Plan,
    PostedStatus,
    PullRequest,
    Resource,
    Role,
    Roles,
    Step,
)


class Tree(Protocol):
    """The files of the config repository at one commit.  Paths are relative, with `/`, and "" is the root.

    Links are not followed, and nothing outside the repository is ever reached.
    """

    def read(self, path: str) -> bytes:
        """The content of a file.  Raises FileNotFoundError if there is no regular file at `path`."""
        ...

    def names(self, folder: str) -> Sequence[str]:
        """The entries of a folder, sorted, sub-folders with a `/` at the end; empty if there is no such folder."""
        ...

    def oid(self, path: str) -> str:
        """The object id: it changes if and only if something at or below `path` changes.  "" if there is nothing."""
        ...

    def kind(self, path: str) -> str:
        """What is there: `file`, `folder`, `link` (a symbolic one), `submodule`, or "" for nothing."""
        ...


class Kind(Protocol):
    """A kind of resource.  Add one: one file in `kinds/` with `connect(tools) -> Kind`.

    The laws every implementation obeys (tests/contract/test_kinds.py):
      1. after apply(create r), observe() yields exactly r           - no perpetual diff
      2. applying a change twice is the same as applying it once     - safe to retry
      3. after apply(delete r), observe() yields no r                - leaves nothing behind
      4. observe() never yields what gitops-mvd did not make         - never touches yours
      5. tamper with r by hand, and observe() no longer yields r     - sees drift
      6. prepare() changes nothing, and refuses only what apply() would refuse - possible before destructive
    """

    name: str
    after: tuple[str, ...]  # the kinds that this one needs to be there first
    role: Role
    prunes: bool  # False: what is no longer wanted stays (volumes)
    keeps_previous: bool  # True: what the version before this one needs stays, for a quick way back (images)

    def wanted(self, app: App) -> Iterable[Resource]:
        """What `app` needs of this kind.  Pure."""
        ...

    def observe(self) -> Iterable[Resource]:
        """All managed resources of this kind on this host, in the vocabulary of `wanted`.  Raises Unavailable."""
        ...

    def prepare(self, changes: Sequence[Change]) -> None:
        """Raise StepFailed, NotNow or Unavailable if it can be known already that `apply` would; change nothing.

        Asked before the first step of a plan that stops or switches something, about all changes of this kind in it.
        By then, images are pulled and containers created.
        """
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out changes of this kind, maybe of several apps.  Raises StepFailed or Unavailable, nothing else."""
        ...


class Probe(Protocol):
    """A probe with its tools: is that instance healthy, now?  One try of a few seconds.

    Never raises.  PROGRESSING: not yet.  DEGRADED: no, and it will stay so.  UNKNOWN: it could not be asked.
    """

    def __call__(self, at: Instance, spec: Json) -> tuple[Health, str]:
        """The health and, if it is not healthy, why (`http 503 from /health`)."""
        ...


class Forge(Protocol):
    """A forge.  Add one: one file in `forges/` with `connect(account) -> Forge`, and `authentic` and `event` below.

    Every method raises only Unavailable (try again later) and StepFailed (the forge will never accept it); the token is
    in neither (tests/contract/test_forges.py).
    """

    def publish(self, commit: str, status: CommitStatus) -> None:
        """Set this status on the commit, in place of the one with the same context.  Twice is the same as once.

        If the forge would show the same again, nothing is sent.
        """
        ...

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        """The newest status of each context that the commit has, sorted by context; a full list, or an error.

        A commit that the forge does not know is refused, as in `publish`.  An answer that has not changed since it was
        last asked for costs nothing where the forge can tell that.
        """
        ...

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        """The open pull or merge requests to that branch, the newest first, at most a hundred."""
        ...

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        """Write or edit this host's comment on the pull request; returns the id to pass as `known` next time.

        Without an id (""), a managed comment with the same first line is edited.  If there is none, a new one is made.
        """
        ...


class Receiver(Protocol):
    """The half of a forge's module that reads webhooks.  Header names are in lower case."""

    def authentic(self, headers: Mapping[str, str], body: bytes, secret: str, /) -> bool:
        """Is it signed with the secret?  Takes the same time for every wrong signature, and never raises."""
        ...

    def event(self, headers: Mapping[str, str], body: bytes, /) -> Event:
        """What an authentic webhook is about; `other` if that is unknown."""
        ...


class Planner(Protocol):
    """What it takes to get from what was found on a host to what it should be.  Raises StepFailed or Unavailable."""

    def plan(self, goals: Sequence[Goal]) -> Plan:
        """What it takes to get some apps to their goals together: what one lets go of, another one may take."""
        ...

    def unrepaired(self, plan: Plan) -> str:
        """Why a plan that only repairs what was changed by hand is not carried out here, "" if it is."""
        ...


class Host(Planner, Protocol):
    """This machine, as reconcile sees it."""

    name: str

    @property
    def roles(self) -> Roles:
        """The kinds of resource there are, in the order in which they need each other."""
        ...

    @property
    def proposing(self) -> Planner:
        """Plans a commit to come, which has precedence wherever several hosts share something."""
        ...

    def apps(self) -> Iterable[str]:
        """The apps that own something here, as labels, tags and headers say: the host is the database."""
        ...

    def pin(self, app: App) -> App:
        """`app` with every image pinned to a digest.  Raises StepFailed (no such image) or Unavailable."""
        ...

    def found(self, app: str) -> tuple[Resource, ...]:
        """The resources of that app that are here now."""
        ...

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        """Carry the steps out; returns why gates that are not required were not passed.

        Raises StepFailed, Unhealthy, Unavailable or Interrupted.
        """
        ...

    def overridden(self, app: App) -> str:
        """What somebody has laid over resources of that app, as found, that is not undone here; "" for nothing."""
        ...

    def health(self, app: App) -> Health:
        """The health of that app now; MISSING if it should have instances and has none."""
        ...

    def health_reason(self, app: App) -> str:
        """What is wrong with that app now, in a few words; "" if nothing is known to be."""
        ...


class Watch(Protocol):
    """Counts requests, as the gateway tells of them, for as long as it is kept."""

    def is_heard(self) -> bool:
        """Has the gateway told of any request of that service yet?"""
        ...

    def numbers(self) -> Mapping[str, Numbers]:
        """What became of the requests so far, by address."""
        ...


class RouteProof(Protocol):
    """Proves that a route leads to its service."""

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        """Does the route lead to its service now?  The health, why it is not healthy, and if an instance answered."""
        ...

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        """Had every node of Kong the time to apply the last change of this route?"""
        ...

    def watch(self, route: Resource, addresses: Iterable[str]) -> Watch:
        """What becomes, from now on, of the requests that go to these addresses by a route that is `counted`.

        Raises Unavailable.
        """
        ...

    def is_counted(self, route: Resource) -> bool:
        """Does Kong tell this process of the requests of the route's service?  Raises Unavailable."""
        ...

    def judged_elsewhere(self, route: Resource) -> str:
        """Which other host that shares this Kong judges a version of the route's service, and until when; "" if none.

        Raises Unavailable.
        """
        ...

    def was_idle(self) -> bool:
        """Was there a moment, since this was asked, without an open request in Kong?  False if that is unknown."""
        ...


class Precedence(Protocol):
    """Decides which host's version of a shared route counts, if several hosts share one Kong."""

    @property
    def cache_key(self) -> object:
        """Another value whenever `agree` may return something else for the same arguments."""
        ...

    def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
        """The route to have here, if another host may take precedence; `held`: this host stays at an older version."""
        ...

    def is_set_by_other_host(self, route: Resource) -> bool:
        """Was the shared part of a route written by another host, and so not changed by hand?"""
        ...


class History(Protocol):
    """The little that cannot be seen by looking at the host."""

    def last_good(self, app: str) -> App | None:
        """The version that last passed all of its gates here; None if none is remembered."""
        ...

    def good_before(self, app: App) -> App | None:
        """The good version before this one, to which a revert most likely leads."""
        ...

    def has_worked(self, app: App) -> bool:
        """Did this very version pass all of its gates here, now or earlier, as far as that is remembered?"""
        ...

    def failure_of(self, app: App) -> Failure | None:
        """Why this very version failed here; None if it did not.  One that is to be tried again is due by then."""
        ...

    def approve(self, app: App, commit: str) -> None:
        """Remember that this version passed all of its gates, at that commit."""
        ...

    def mark_failed(self, app: App, failure: Failure) -> None:
        """Remember it; one that waits is due after a while, which is longer each time in a row."""
        ...

    def forget(self, app: str) -> None:
        """Forget every version of that app that worked."""
        ...

    def reverted_to(self, app: App, commit: str) -> str:
        """The commit that ran this good version before, if this commit brought it back; "" if the version is new."""
        ...

    def is_job_done(self, job: str) -> bool:
        """Has the job of that name succeeded here?"""
        ...

    def mark_job_done(self, job: str) -> None: ...

    def adopted(self) -> Mapping[tuple[str, str], str]:
        """The apps to which an operator gave networks and volumes as they are, by kind and name of these."""
        ...


class Clock(Protocol):
    """Time, so that tests need none."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep, or raise Interrupted as soon as there is something newer to do."""
        ...


class Git(Protocol):
    """Runs a git command and returns its exit status, stdout and stderr."""

    def __call__(
        self, *words: str, settings: Mapping[str, str] = ..., environment: Mapping[str, str] = ...
    ) -> tuple[int, str, str]:
        """`settings` are Git's own, for this command alone.  Raises Unavailable if git cannot be run."""
        ...
