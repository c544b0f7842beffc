"""Every host of a fleet, by what it has posted to the last commits of the branch: no host is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gitops_mvd.core.model import Health, PostedStatus, Revision, Sync
from gitops_mvd.status import status_text

MOST_COMMITS = 20  # that are looked at, the newest first: a host posts only to those that change it


@dataclass(frozen=True, slots=True)
class HostStatus:
    """The newest status of a host, and the commit that has it; None if none of the last commits has one."""

    host: str
    revision: Revision | None = None
    posted: PostedStatus | None = None

    @property
    def is_green(self) -> bool:
        return self.posted is not None and self.posted.state == "green"

    @property
    def sync(self) -> Sync:
        return status_text.read(self.posted)[0] if self.posted else Sync.UNKNOWN

    @property
    def health(self) -> Health:
        return status_text.read(self.posted)[1] if self.posted else Health.UNKNOWN


def host_statuses(
    hosts: Iterable[str], line: Sequence[Revision], statuses: Callable[[str], Sequence[PostedStatus]]
) -> tuple[HostStatus, ...]:
    """Each of the hosts, sorted by name, by `statuses(commit)` of a line of commits, the newest first.

    Without hosts, as where there is no `fleet.yaml`, they are those that have posted.  A commit is asked for only as
    long as a host is left that has not posted to a newer one.
    """
    wanted = set(hosts)
    start, is_open = status_text.context(""), not wanted
    found: dict[str, HostStatus] = {}
    for revision in line:
        if wanted and wanted <= found.keys():
            break
        for posted in statuses(revision.commit):
            host = posted.context.removeprefix(start)
            if posted.context.startswith(start) and (host in wanted or (is_open and "/" not in host)):
                found.setdefault(host, HostStatus(host, revision, posted))
    return tuple(found.get(host, HostStatus(host)) for host in sorted(wanted | found.keys()))
