"""Errors, one leaf per reaction of the loop.  Pure.

    MvdError
      x ManifestError      the repository is wrong       -> that app stays, and is healed, at its last good version
      x Unavailable        something did not answer      -> change nothing more, back off, try again
        + RateLimited      too many requests             -> the same, and not before it allows that
        + RevisionRefused  a commit may not be followed  -> the same, and that commit turns red
        + Disrupted        Docker took an instance along -> the same, and start it anew if nothing else does
        + OnItsWay         a gate lasts longer than that -> the same, at once, and with no harm in it
      x Interrupted        something newer to do         -> stop here, start the next pass at once
      x StepFailed         a change was refused          -> mark this version failed, roll back
        + Unhealthy        a gate did not pass           -> the same
        + NotNow           the surroundings refused it   -> roll back, wait, and try the same version again
        + Lacking          this host lacks what it needs -> mark failed, roll back, and try it again now and then

Foreign exceptions (docker, requests, git, sockets) become one of these in the module at the edge that met them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gitops_mvd.core.redact import told_text

if TYPE_CHECKING:
    from gitops_mvd.core.model import Problem, Resource

VERSION, NOT_NOW, LACKS, UNANSWERED, DEFECT = "version", "not_now", "lacking", "unanswered", "defect"
FAULTS = (VERSION, NOT_NOW, LACKS, UNANSWERED, DEFECT)
"""Whose fault it is: the version's, which is not tried again; the surroundings', a host's that lacks something, or that
of whoever does not answer, which all go on by themselves; or our own."""
INTERNAL = "internal error"  # begins a message of our own defects


class MvdError(Exception):
    """What went wrong, in one sentence that names the thing; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = told_text(message), told_text(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ManifestError(MvdError):
    """The repository says something that cannot be honoured; `problems` has every place, with file and line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        super().__init__(f"{self.problems[0]}{more}")


class Unavailable(MvdError):
    """Something did not answer, which does not mean that it refused."""


class RateLimited(Unavailable):
    """Too many requests: not before `retry_after` seconds again."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RevisionRefused(Unavailable):
    """A commit may not be followed here: nothing of it is used.  `commit` is its full id, for the status."""

    def __init__(self, message: str, commit: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.commit = commit


class Disrupted(Unavailable):
    """An instance, the unit `on`, ended or was not started because the server or its Docker engine ended."""

    def __init__(self, message: str, on: Resource) -> None:
        super().__init__(message)
        self.on = on


class OnItsWay(Unavailable):
    """A gate that lasts long is still waited at: other apps have their turn, and then it goes on where it was."""


class Interrupted(MvdError):
    """A newer revision or a signal came: the current wait is given up."""


class StepFailed(MvdError):
    """A change was refused, and would be refused again.

    `app` and `service` are those that it was made for, "" without one.
    """

    app: str = ""
    service: str = ""


class Unhealthy(StepFailed):
    """A gate did not pass in its time, or failed for good before it."""


class NotNow(StepFailed):
    """A change was refused for a reason that is not in the manifest, and may be gone later: a port that another process
    has, a full disk, a quota, a registry that is busy.
    """


class Lacking(StepFailed):
    """This host lacks something that the manifest needs and that nobody here makes: a device, a driver, a host path."""


def fault_of(error: MvdError) -> str:
    """Whose fault an error is, one of FAULTS; "" if something newer only came between."""
    match error:
        case Interrupted() | OnItsWay():
            return ""
        case Unavailable():
            return UNANSWERED
        case _ if INTERNAL in error.message:
            return DEFECT
        case NotNow():
            return NOT_NOW
        case Lacking():
            return LACKS
    return VERSION


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Inside, an answer of another shape than `where` documents is one that says nothing.  Raises Unavailable."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise unexpected(where) from error


def unexpected(where: str) -> Unavailable:
    return Unavailable(f"{where} answered with something unexpected")
