"""The message that notices become: those that wait for one receiver are told in one, the worst first.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from fnmatch import fnmatchcase

from gitops_mvd.core.notice import Notice, Quiet, What
from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import plain_line
from gitops_mvd.status import status_text
from gitops_mvd.status.notices import SERVER

MOST_TOLD = 20  # notices of one message; of more, the worst
LONGEST_WHY = 300  # characters
RECENT_SECONDS = 120.0  # what is older is told with its time
KINDS = {
    What.DEPLOYED: "success",
    What.RECOVERED: "success",
    What.SUSPENDED: "info",
    What.WAITING: "warning",
    What.DEGRADED: "failure",
    What.FAILED: "failure",
}
"""What has happened, as apprise tells kinds of messages apart: most receivers have a colour for each."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message in plain text; `kind` is one of KINDS."""

    title: str
    body: str
    kind: str = "info"

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", told_line(self.title, 200))
        object.__setattr__(self, "body", told_text(self.body))


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that a message tells: a notice, or what has `begun` before it and is over by now."""

    notice: Notice
    begun: Notice | None = None


def concerns(notice: Notice, apps: Sequence[str], on: Sequence[str]) -> bool:
    """Does it change what somebody is to be told who asked for these apps, all if there are none, and these words?

    So does the end of a trouble that is still to be told, also for who does not ask for recoveries.
    """
    if (notice.over or notice.what) not in on:
        return False
    return not apps or (notice.app != SERVER and any(fnmatchcase(notice.app, pattern) for pattern in apps))


def folded(notices: Iterable[Notice], on: Sequence[str] = tuple(What)) -> list[Told]:
    """What is still worth telling of notices that have waited, the oldest first: the worst first, each app by itself.

    What began and ended among them is one line, for who asked for recoveries in `on`, and so is what was deployed
    several times, or is over in two ways.
    """
    begun: dict[tuple[str, str, What], Notice] = {}
    mended: dict[tuple[str, str, What], Told] = {}
    recovered: dict[tuple[str, str, What], Notice] = {}  # from what was told in an earlier message
    deployed: dict[str, Notice] = {}
    for notice in notices:
        key = notice.app, notice.about, notice.over or notice.what
        if notice.what is What.DEPLOYED:
            deployed[notice.app] = notice
        elif not notice.over:
            begun[key] = notice
        elif (first := begun.pop(key, None)) and key not in recovered:
            mended[key] = Told(notice, mended[key].begun if key in mended else first)
        else:
            recovered[key] = notice
    good = {key[:2]: Told(notice) for key, notice in recovered.items() if key not in begun}
    again = [it for key, it in mended.items() if key not in recovered]
    told = [it for it in (*map(Told, begun.values()), *again, *good.values()) if it.notice.what in on]
    others = {it.notice.app for it in told}  # of which more is to be said than that it was deployed
    told += [Told(notice) for app, notice in deployed.items() if app not in others]
    order = list(What)
    return sorted(told, key=lambda it: (bool(it.begun), -order.index(it.notice.what), it.notice.app, it.notice.at))


def message(
    host: str, told: Sequence[Told], now: float, *, link: str = "", dropped: int = 0, zone: tzinfo | None = None
) -> Message:
    """The one message about what is `folded`.

    `link` is the template of an address, `dropped` how many were too many to wait, and `zone` that of the times.
    """
    blocks = [_block(host, it, now, link, zone) for it in told[:MOST_TOLD]]
    if len(told) > MOST_TOLD:
        blocks.append(f"and {len(told) - MOST_TOLD} more: mvd status")
    if dropped:
        blocks.append(f"{dropped} older {'notice was' if dropped == 1 else 'notices were'} dropped: too many waited")
    worst = max((it.notice.what for it in told if not it.begun), key=list(What).index, default=What.RECOVERED)
    return Message(_title(host, told), "\n\n".join(blocks), KINDS[worst])


def trial(host: str, name: str) -> Message:
    """What `mvd notify --test` sends."""
    body = f"This is a test of the receiver {name} of {host}, by `mvd notify --test`. There is nothing to do."
    return Message(f"{host}: test of notifications", body)


def _title(host: str, told: Sequence[Told]) -> str:
    if len(told) == 1:
        return _what(host, told[0])
    counted = Counter("mended" if it.begun else str(it.notice.what) for it in told)
    return f"{host}: {', '.join(f'{number} {what}' for what, number in counted.items())}"


def _what(host: str, told: Told) -> str:
    """`web on srv1 failed`, `web on srv1 failed and recovered`, `srv1 is waiting`."""
    subject = f"{told.notice.app} on {host}" if told.notice.app else host
    return f"{subject} {f'{_verb(told.begun)} and ' if told.begun else ''}{_verb(told.notice)}"


def _verb(notice: Notice) -> str:
    match notice.what:
        case What.WAITING | What.DEGRADED | What.SUSPENDED if notice.over is None:
            return f"is {notice.what}"
        case What.SUSPENDED:
            return "is resumed"
    return str(notice.what)


def _block(host: str, told: Told, now: float, link: str, zone: tzinfo | None) -> str:
    notice, begun = told.notice, told.begun
    clock = Quiet(0, 0, zone).local
    if begun:
        times = f" ({clock(begun.at):%H:%M} to {clock(notice.at):%H:%M})"
    else:
        times = f" at {clock(notice.at):%Y-%m-%d %H:%M}" if now - notice.at > RECENT_SECONDS else ""
    why = status_text.first_line((begun or notice).why)
    lines = [f"{_what(host, told)}{times}{f': {plain_line(why, LONGEST_WHY)}' if why else ''}"]
    if revision := notice.revision:
        lines.append(f"commit {revision.short} {revision.subject}".rstrip())
    if begun:
        return "\n".join(lines)
    if link and (revision or "{commit}" not in link):
        lines.append(status_text.link(link, host, notice.app, revision.commit if revision else ""))
    if notice.what not in (What.DEPLOYED, What.RECOVERED):
        lines.append(f"look: mvd status {notice.app}".rstrip())
    return "\n".join(lines)
