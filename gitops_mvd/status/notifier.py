"""Tells what is new to the receivers that asked for it, by putting it into the queue of each; nothing waits for that.

Whatever goes wrong here is logged, and holds up no pass.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain

from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Report, Revision, ThreadState
from gitops_mvd.core.notice import Notice, What
from gitops_mvd.state.notices import Notices
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notice_text import concerns
from gitops_mvd.status.notices import LONG_SECONDS, SERVER, News, Seen
from gitops_mvd.status.statuses import CommitChange

log = logging.getLogger(__name__)

# The matters of a server.
GIT, REFUSED, REVISION, PASS, SUSPENDED, THREAD = "git", "refused", "revision", "pass", "suspended", "thread "
OVER = Seen(False, patience=0)


class Notifier:
    """What is new of one host, from what its daemon reports.  Used by the loop alone; nothing raises.

    `receivers` are those of the settings; without any, nothing is remembered.
    """

    def __init__(self, notices: Notices, receivers: Sequence[Deliveries], now: Callable[[], float] = time.time) -> None:
        self._notices = notices
        self.receivers = receivers
        self._now = now
        self._news: News | None = None  # not read yet
        self._last_warning = ""

    def add_commits(self, changes: Sequence[CommitChange]) -> None:
        """New commits, the oldest first."""

        def look(news: News) -> list[Notice]:
            news.add_commits(changes)
            return []

        self._tell(look)

    def report(self, report: Report, done: Callable[[], Mapping[str, str]]) -> None:
        """The result of a pass; `done` has what the last commits have changed in apps, in words."""

        def look(news: News) -> list[Notice]:
            over = [self._see(news, matter, OVER) for matter in (REVISION, PASS, SUSPENDED)]
            return [*chain(*over), *news.report(report, done(), self._now())]

        self._tell(look)

    def wait(self, why: str) -> None:
        """A pass came to nothing, as something does not answer."""

        def look(news: News) -> list[Notice]:
            if (SERVER, REVISION) in news.matters:  # that is why
                return []
            return self._see(news, PASS, Seen(True, why, patience=LONG_SECONDS), What.WAITING)

        self._tell(look)

    def fail(self, revision: Revision, why: str) -> None:
        """A commit as a whole cannot be read."""
        seen = Seen(True, why, revision.commit, 0)
        self._tell(lambda news: self._see(news, REVISION, seen, What.FAILED, revision))

    def refuse(self, commit: str, why: str) -> None:
        """A commit is refused, such as one without a good signature."""
        seen, revision = Seen(True, why, commit, 0), Revision(commit, "")
        self._tell(lambda news: [*self._see(news, GIT, OVER), *self._see(news, REFUSED, seen, What.FAILED, revision)])

    def miss_git(self, why: str) -> None:
        """Git could not be asked."""
        self._tell(lambda news: self._see(news, GIT, Seen(True, why, patience=LONG_SECONDS), What.WAITING))

    def fetched(self) -> None:
        """Git was asked, and has led to the newest commit."""
        self._tell(lambda news: [*self._see(news, GIT, OVER), *self._see(news, REFUSED, OVER)])

    def suspend(self, why: str) -> None:
        """The server is suspended, for that reason."""
        self._tell(lambda news: self._see(news, SUSPENDED, Seen(True, why, patience=0), What.SUSPENDED))

    def threads(self, states: Callable[[], Iterable[ThreadState]]) -> None:
        """How the threads of the daemon are that have ended once."""

        def look(news: News) -> list[Notice]:
            down = {f"{THREAD}{it.name}": it.cause for it in states() if not it.is_up}
            known = {name for app, name in news.matters if app == SERVER and name.startswith(THREAD)}
            found = []
            for name in sorted(down.keys() | known):
                is_down = name in down
                why = f"the {name} of the daemon is down: {down[name]}" if is_down else ""
                found += self._see(news, name, Seen(is_down, why, patience=LONG_SECONDS * is_down), What.DEGRADED)
            return found

        self._tell(look)

    def next_check_in(self) -> float | None:
        """Seconds until a pass should look whether something has lasted, None if nothing is pending."""
        return self._news.next_check_in(self._now()) if self._news else None

    def close(self) -> None:
        self._notices.close()

    def deliver(self) -> None:
        """Send all that waits, now."""
        for receiver in self.receivers:
            with self._apart():
                receiver.deliver()

    def _see(
        self, news: News, name: str, seen: Seen, what: What | None = None, revision: Revision | None = None
    ) -> list[Notice]:
        return news.see(SERVER, name, seen, self._now(), revision, what)

    def _tell(self, look: Callable[[News], list[Notice]]) -> None:
        """Queue the notices that are found, and keep what is remembered, if it is another by then."""
        if not self.receivers:
            return
        with self._apart():
            news = self._remembered()
            before = news.copy()
            found = look(news)
            if news != before:
                self._queue(news, found)

    def _queue(self, news: News, found: Sequence[Notice]) -> None:
        queued = [(it, notice) for notice in found for it in self._receivers_of(notice)]
        self._notices.keep(news.to_json(), [(receiver.name, notice) for receiver, notice in queued])
        for receiver in {receiver for receiver, _ in queued}:
            receiver.wake()

    def _receivers_of(self, notice: Notice) -> list[Deliveries]:
        return [it for it in self.receivers if concerns(notice, it.settings.apps, it.settings.on)]

    def _remembered(self) -> News:
        if self._news is None:
            memory = self._notices.memory()
            try:
                self._news = News.from_json(memory) if memory else News()
            except (ValueError, TypeError, KeyError, AttributeError):
                log.warning("what is remembered of notices cannot be read, and is begun anew")
                self._news = News()
            self._notices.keep_only({receiver.name for receiver in self.receivers})
        return self._news

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Inside, nothing that goes wrong ends a pass; the same is logged once."""
        try:
            yield
        except MvdError as error:
            if str(error) != self._last_warning:
                log.warning("cannot notify: %s", error)
            self._last_warning = str(error)
            self._news = None  # what was not kept is found again
        except Exception:
            log.exception("internal error while notifying")
            self._news = None
        else:
            self._last_warning = ""
