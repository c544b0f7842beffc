"""What each commit changes on this host: the apps that are not after it what they were before."""

from __future__ import annotations

from collections.abc import Mapping

from gitops_mvd.core.errors import ManifestError, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.ports import Tree
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.status.statuses import Step

Contents = Mapping[str, str]
"""By app, what tells its version from others: the digest of it, or what is wrong with it; "" stands for the fleet."""


def contents(tree: Tree, host: str, cache: Cache | None = None) -> Contents:
    """What this host should be at a commit, as far as one commit differs from another."""
    try:
        apps, broken = load(tree, read_fleet(tree).host(host), cache)
    except ManifestError as error:
        return {"": str(error)}
    return {app.name: app.version for app in apps} | {name: str(problems) for name, problems in broken.items()}


def changed(before: Contents, after: Contents) -> frozenset[str]:
    """The apps that differ."""
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def steps(source: Source, host: str, cache: Cache, known: Revision | None, tip: Revision) -> list[Step]:
    """Every commit after the one that was `known`, up to the tip; of what can not be read, nothing can be told."""
    if not known:
        return [Step(tip, None)]
    before = _contents_at(source, known, host, cache)
    taken = []
    for revision in source.since(known, tip):
        after = _contents_at(source, revision, host, cache)
        taken.append(Step(revision, None if before is None or after is None else changed(before, after)))
        before = after
    return taken


def _contents_at(source: Source, revision: Revision, host: str, cache: Cache) -> Contents | None:
    try:
        return contents(source.tree(revision), host, cache)
    except Unavailable:  # the mirror is shallow, or was made anew
        return None
