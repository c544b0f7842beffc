"""The config repository: one branch of it, mirrored and fetched shallow, and its files read at a commit."""

from gitops_mvd.source.branch import Source, no_token

__all__ = ["Source", "no_token"]
