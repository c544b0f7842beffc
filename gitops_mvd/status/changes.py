"""What each commit changes on this host: the apps whose version differs from the commit before."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from gitops_mvd.core.errors import ManifestError, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.ports import Tree
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.status.statuses import CommitChange

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 10.0  # for all commits between two fetches

Contents = Mapping[str, str]
"""App -> the digest of its version and whether it is suspended, or what is wrong with its manifest; "" -> what is wrong
with the fleet file."""


def contents(tree: Tree, host: str, cache: Cache | None = None) -> Contents:
    """What this host should run at a commit, as far as one commit differs from another."""
    try:
        apps, broken = load(tree, read_fleet(tree).host(host), cache)
    except ManifestError as error:
        return {"": str(error)}
    versions = {app.name: f"{app.version} {app.suspend.text}" if app.suspend else app.version for app in apps}
    return versions | {name: str(problems) for name, problems in broken.items()}


def changed(before: Contents, after: Contents) -> frozenset[str]:
    """The apps that differ."""
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def commit_changes(
    source: Source, host: str, cache: Cache, known: Revision | None, tip: Revision
) -> list[CommitChange]:
    """Every commit after `known` up to the tip, oldest first; `changed` is None for what cannot be read in time."""
    if not known:
        return [CommitChange(tip, None)]
    deadline = time.monotonic() + DEADLINE_SECONDS
    before = _contents_at(source, known, host, cache, deadline)
    changes = []
    for revision in source.since(known, tip):
        after = _contents_at(source, revision, host, cache, deadline)
        changes.append(CommitChange(revision, None if before is None or after is None else changed(before, after)))
        before = after
    return changes


def _contents_at(source: Source, revision: Revision, host: str, cache: Cache, deadline: float) -> Contents | None:
    if time.monotonic() > deadline:
        return None
    try:
        return contents(source.tree(revision), host, cache)
    except Unavailable:  # the mirror is shallow, or was made anew
        return None
    except Exception:  # only the tip decides what is done: a commit behind it, bad as it may be, holds up nothing
        log.exception("cannot read a commit commit=%s", revision.short)
        return None
