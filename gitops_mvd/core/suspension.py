"""A suspension: what is left as it is, by whom, why, until when.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gitops_mvd.core.redact import told_line

IN_GIT = "Git"  # who suspends an app by `x-mvd: {suspend: true}`


@dataclass(frozen=True, slots=True)
class Suspension:
    """A host or an app on which nothing is changed; with `stop`, the instances of the app are stopped, too.

    `by` is a person or what has done it, IN_GIT for an app that its commit suspends, "" if nobody knows.  `since` and
    `until` have a time zone, that of the server; None if it is not known since when, or until somebody resumes.
    """

    by: str = ""
    why: str = ""
    since: datetime | None = None
    until: datetime | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        for name in ("by", "why"):
            object.__setattr__(self, name, told_line(getattr(self, name)).strip())

    @property
    def is_in_git(self) -> bool:
        return self.by == IN_GIT

    @property
    def text(self) -> str:
        """`suspended by anna until 14:00: the disk is changed`, in one line."""
        words = ["stopped" if self.stop else "suspended"]
        if self.by:
            words.append(f"in {IN_GIT}" if self.is_in_git else f"by {self.by}")
        if self.until:
            is_same_day = self.since is not None and self.since.date() == self.until.date()
            words.append(f"until {self.until:%H:%M}" if is_same_day else f"until {self.until:%Y-%m-%d %H:%M}")
        return f"{' '.join(words)}: {self.why}" if self.why else " ".join(words)

    def is_over(self, now: datetime) -> bool:
        """Has it ended by itself?"""
        return self.until is not None and self.until <= now

    def as_json(self) -> dict[str, Any]:
        """Every field, times in ISO format with their zone, None for an unknown one."""
        times = {name: at.isoformat() if at else None for name, at in (("since", self.since), ("until", self.until))}
        return {"by": self.by, "why": self.why, **times, "stop": self.stop}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Suspension:
        """What `as_json` made; whatever else stands there counts as left out."""
        by, why = (str(value.get(name) or "") for name in ("by", "why"))
        return cls(by, why, _time(value.get("since")), _time(value.get("until")), value.get("stop") is True)


@dataclass(frozen=True, slots=True)
class Suspensions:
    """What is suspended on a host: all of it (None: it is not), and single apps by name."""

    host: Suspension | None = None
    apps: Mapping[str, Suspension] = field(default_factory=dict)

    @property
    def next_end(self) -> datetime | None:
        """When the first of them ends by itself; None if none does."""
        every = (*([self.host] if self.host else ()), *self.apps.values())
        return min((it.until for it in every if it.until), default=None)


def stricter(here: Suspension | None, in_git: Suspension | None) -> Suspension | None:
    """The one that counts of an operator's and a commit's: the one that stops, the operator's if both do or neither."""
    if here and in_git:
        return in_git if in_git.stop and not here.stop else here
    return here or in_git


def _time(value: object) -> datetime | None:
    """A time in ISO format; one without a zone, as a person may write it, is that of the server."""
    try:
        at = datetime.fromisoformat(str(value))
        return at if at.tzinfo else at.astimezone()
    except (ValueError, OverflowError):
        return None
