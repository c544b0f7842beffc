"""The protocols between the rooms, with their laws.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gitops_mvd.core.model import (
    App,
    Change,
    CommitStatus,
    Event,
    Failure,
    Health,
    Instance,
    Json,
    Plan,
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
        """The content of a file.  Raises FileNotFoundError where there is no regular file at `path`."""
        ...

    def names(self, folder: str) -> Sequence[str]:
        """The entries of a folder, sorted, sub-folders with a `/` behind; nothing where there is no such folder."""
        ...

    def oid(self, path: str) -> str:
        """Changes if and only if something at or below `path` changes; "" where there is nothing."""
        ...


class Kind(Protocol):
    """A kind of resource.  Add one: one file in `kinds/` with `connect(tools) -> Kind`.

    The laws every implementation obeys (tests/contract/test_kinds.py):
      1. after apply(create r), observe() yields exactly r           - no perpetual diff
      2. applying a change twice is the same as applying it once     - safe to retry
      3. after apply(delete r), observe() yields no r                - leaves nothing behind
      4. observe() never yields what mvd did not make                - never touches yours
      5. tamper with r by hand, and observe() no longer yields r     - sees drift
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
        """Everything of ours on this host, in wanted()'s vocabulary.  Raises Unavailable."""
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Make the changes, all of this kind and of one app, so.  Raises StepFailed or Unavailable, nothing else."""
        ...


class Probe(Protocol):
    """A module of `probes/` with `check`, its tools given: is that instance healthy, now?  One try of a few seconds.

    Never raises.  PROGRESSING: not yet.  DEGRADED: it says no.  UNKNOWN: could not ask.
    """

    def __call__(self, at: Instance, spec: Json) -> tuple[Health, str]:
        """The health and, where it is not healthy, why (`http 503 from /health`)."""
        ...


class Forge(Protocol):
    """A forge.  Add one: one file in `forges/` with `connect(account) -> Forge`, and `authentic` and `event` below.

    Whatever it is asked, it raises nothing but Unavailable (try again later) and StepFailed (never will be accepted),
    with the token in neither (tests/contract/test_forges.py).
    """

    def publish(self, commit: str, status: CommitStatus) -> None:
        """Have the commit show this status instead of any other of its context; twice is the same as once.

        Where the forge has no other words for what it shows already, it stays as it is.
        """
        ...

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        """Every open pull or merge request to that branch, the newest first, of the last hundred."""
        ...

    def comment(self, proposal: PullRequest, text: str, known: str) -> str:
        """Have the proposal show this comment; returns what it is to be `known` by when it is written anew.

        Where it is not known (""), one of ours that begins with the same line is written anew instead, and where it is
        gone, a new one is made.
        """
        ...


class Receiver(Protocol):
    """The half of a forge's module that webhooks come in by.  Header names are in lower case."""

    def authentic(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        """Did somebody send this who knows the secret?  In constant time; whatever is given, nothing is raised."""
        ...

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        """What an authentic one says; `other` where that can not be told."""
        ...


class Planner(Protocol):
    """What it takes to get from what was found on a host to what it should be.  Raises StepFailed or Unavailable."""

    def plan(self, app: App, proven: bool) -> Plan:
        """What it takes to get to `app`; one that is not `proven` passes all of its gates."""
        ...

    def plan_back(self, app: App, before: Sequence[Resource]) -> Plan:
        """What it takes to get from a failed `app` to exactly the resources that were found before it."""
        ...

    def unrepaired(self, plan: Plan) -> str:
        """Why a plan that only repairs what was changed by hand is not carried out here, "" if it is."""
        ...


class Host(Planner, Protocol):
    """This machine, as the heart sees it."""

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
        """Who owns something here, by label: the host is the database."""
        ...

    def pin(self, app: App) -> App:
        """`app` with every image pinned to a digest.  Raises StepFailed (no such image) or Unavailable."""
        ...

    def found(self, app: str) -> tuple[Resource, ...]:
        """What there is of that app now."""
        ...

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        """Do it, step by step; returns what is said of the gates that were not passed and need not be.

        Raises StepFailed, Unhealthy, Unavailable or Interrupted.
        """
        ...

    def health(self, app: App) -> Health:
        """How what there is of that app is doing now; MISSING where it should have instances and has none."""
        ...

    def health_reason(self, app: App) -> str:
        """What is wrong with it now, in a few words; "" where nothing is known to be."""
        ...


class RouteProof(Protocol):
    """What leads to the services of this host."""

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        """Does it lead to this service, now?  The health, why it is not healthy, and whether an instance answered."""
        ...

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        """Had every node of it the time to take up what was changed of this route?"""
        ...


class Precedence(Protocol):
    """Who says what several hosts share in one gateway."""

    @property
    def cache_key(self) -> object:
        """Changes where `agree` may say something else of the same."""
        ...

    def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
        """The route that this host is to have, where another host may have the say; `held` is an older version."""
        ...

    def is_set_by_other_host(self, route: Resource) -> bool:
        """Is what is shared of a route as another host has said, and so not changed by hand?"""
        ...


class History(Protocol):
    """The little that the host can not tell by looking at itself."""

    def last_good(self, app: str) -> App | None:
        """The version that last passed all of its gates here; None where there is no memory of one."""
        ...

    def good_before(self, app: App) -> App | None:
        """The good version that came before this one: where a revert of it most likely leads."""
        ...

    def failure_of(self, app: App) -> Failure | None:
        """Why this very version does not do here."""
        ...

    def approve(self, app: App, commit: str) -> None:
        """This version has passed all of its gates, at that commit."""
        ...

    def mark_failed(self, app: App, failure: Failure) -> None: ...

    def forget(self, app: str) -> None:
        """No version of it is known to have worked any more."""
        ...

    def reverted_to(self, app: App, commit: str) -> str:
        """The commit that ran this good version before, if this commit brought it back; "" where it is simply new."""
        ...

    def is_job_done(self, job: str) -> bool:
        """Has the job of that name done its work here?"""
        ...

    def mark_job_done(self, job: str) -> None: ...


class Clock(Protocol):
    """Time, so that tests need none."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def wait(self, seconds: float) -> None:
        """Sleep, or raise Interrupted as soon as something newer comes up."""
        ...


class Git(Protocol):
    """Runs a git command: its exit status, what it printed, and what it complained about."""

    def __call__(
        self, *words: str, settings: Mapping[str, str] = ..., environment: Mapping[str, str] = ...
    ) -> tuple[int, str, str]:
        """`settings` are Git's own, for this command alone.  Raises Unavailable where git can not be run."""
        ...
