"""Which commit an instance is of: what each line that it prints can be found by."""

from __future__ import annotations

from gitops_mvd.state.history import SqliteHistory


class Commits:
    """`followed` is the commit that this server follows now, "" before there is one."""

    def __init__(self, history: SqliteHistory) -> None:
        self._history = history
        self.followed = ""

    def of(self, app: str, instance: str) -> str:
        """The commit that an instance is of: the one that is followed as it is made.

        One of the version that last worked, which is made again after a rollback or because somebody removed it, is of
        the commit with which that version came.  Raises Unavailable.
        """
        good = self._history.last_good(app)
        is_good = good and any(instance in service.instances(app) for service in good.services)
        came = self._history.runs_since(app) if is_good else None
        return came[0] if came else self.followed
