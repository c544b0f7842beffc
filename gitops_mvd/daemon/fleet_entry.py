"""What `fleet.yaml` says of this host, for whoever looks at it: its wave, and since which commit it is drained."""

from __future__ import annotations

from gitops_mvd.core.errors import ManifestError, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import read_fleet
from gitops_mvd.manifest.fleet import Fleet
from gitops_mvd.state.history import FleetEntry

MOST_BEHIND = 64  # commits in which the one that drained this host is looked for


def fleet_entry(fleet: Fleet, host: str, revision: Revision, source: Source, known: FleetEntry) -> FleetEntry:
    """The entry at a revision; the commits are only looked through if the host was not drained when it was `known`."""
    usual = fleet.rollouts.usual
    wave = usual.place_of(host) + 1 if usual and host in fleet.hosts else 0
    if not fleet.host(host).drained:
        return FleetEntry(wave)
    since = known.since if known.is_drained else _drained_by(source, revision, host)
    return FleetEntry(wave, True, since)


def _drained_by(source: Source, revision: Revision, host: str) -> Revision | None:
    """The commit that drained a host which still is so; None if the mirror does not go back to it."""
    since = None
    try:
        line, is_whole = source.line(revision, MOST_BEHIND)
        for earlier in reversed(line):
            if not _is_drained(source, earlier, host):
                return since
            since = earlier
    except Unavailable:
        return None
    return since if is_whole else None


def _is_drained(source: Source, revision: Revision, host: str) -> bool:
    try:
        return read_fleet(source.tree(revision)).host(host).drained
    except ManifestError:  # a host stays as it was then, and no commit drains one that was not there
        return False
