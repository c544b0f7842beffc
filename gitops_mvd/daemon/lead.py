"""Who of the managers of a Swarm acts: the one on its leader.  On a plain host it is always this one."""

from __future__ import annotations

from enum import Enum, auto

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.state.history import SqliteHistory


class Led(MvdError):
    """Another manager of the Swarm acts; this one only looks on."""


class _Who(Enum):
    """Who acts, as far as this manager knows; it is NEW as long as it has not taken the newest commit."""

    ANOTHER = auto()
    NEW = auto()
    OWN = auto()


class Lead:
    """The lead of the Swarm `name`, as one of its managers has it; there is no `manager` on a plain host."""

    def __init__(self, name: str, manager: Manager | None, history: SqliteHistory) -> None:
        self._name = name
        self._manager = manager
        self._history = history
        self._who = _Who.NEW

    def require(self) -> None:
        """Raise Led if another manager acts.  If none can, Unavailable is for who acted last, which tells commits."""
        if not self._manager:
            return
        try:
            leader = self._manager.leader()
        except Unavailable as error:
            if self._who is _Who.OWN:
                raise
            raise Led(str(error)) from error
        if leader:
            if self._who is not _Who.ANOTHER:
                self._history.forget_good()  # by now others may have worked
            self._who = _Who.ANOTHER
            raise Led(f"{self._name} is led by {leader}, which acts and reports")
        if self._who is _Who.ANOTHER:
            self._who = _Who.NEW

    @property
    def is_own(self) -> bool:
        """Has it acted since it leads?  Until then, older commits are the business of who led before."""
        return not self._manager or self._who is _Who.OWN

    def begin(self) -> None:
        """From now on it acts: it has taken the newest commit."""
        self._who = _Who.OWN
