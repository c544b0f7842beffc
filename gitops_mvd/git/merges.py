"""Pull requests as they would be once they were merged, in a repository of their own beside the mirror.

Whoever may open a pull request decides what lies in here, and how much history came along with it: so the mirror, which
the host is kept equal to, knows nothing of it.  It may be lost at any time.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import PullRequest
from gitops_mvd.git.mirror import DEPTHS, Mirror
from gitops_mvd.git.tree import GitTree

KEPT = "refs/mvd/proposals/"
GIT_MERGES_TREES = (2, 38)
COMMIT = re.compile("[0-9a-f]{40}")
REF = re.compile(r"refs/(?!.*(?:\.\.|//|@\{|/\.|/$|\.$|\.lock$))[^\s\\~^:?*\[\x00-\x20\x7f]+")


@dataclass(frozen=True)
class Merges:
    """Pull requests to `branch`, in the repository `mirror`; the caller of anything here holds it alone."""

    mirror: Mirror
    branch: str

    def tree(self, pull_request: PullRequest, onto: str) -> GitTree:
        """The files as they would be once the pull request was merged into the commit `onto`.

        Raises StepFailed if that is impossible, Unavailable if it is unknown now.
        """
        with self._trusted():
            tree = self._tree(pull_request, onto)
        return GitTree(bytes.fromhex(tree), self.mirror.reader())

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all pull requests but these."""
        with self._trusted():
            if not (self.mirror.place / "HEAD").exists():
                return
            wanted = {f"{KEPT}{number}" for number in numbers}
            for ref in self._say("for-each-ref", "--format=%(refname)", KEPT).splitlines():
                if ref not in wanted:
                    self._say("update-ref", "-d", ref)

    @contextlib.contextmanager
    def _trusted(self) -> Iterator[None]:
        """What is there is begun anew after any doubt, and doubted after any failure but the pull request's own."""
        if not self.mirror.whole():
            self.mirror.remove()
        self.mirror.sweep()
        self.mirror.sound = False
        try:
            yield
        except StepFailed:
            self.mirror.sound = True
            raise
        self.mirror.sound = True

    def _tree(self, pull_request: PullRequest, onto: str) -> str:
        if not pull_request.ref:
            raise StepFailed(
                f"the branch of #{pull_request.number} lies in a fork, and its forge offers no way to it from here",
                "push the branch to the config repository itself",
            )
        if not REF.fullmatch(pull_request.ref):
            raise StepFailed(f"{pull_request.ref!r}, the ref of #{pull_request.number}, is not the name of a ref")
        head = pull_request.commit
        if not COMMIT.fullmatch(head):
            raise StepFailed(f"{head!r}, the head of #{pull_request.number}, is not the id of a commit")
        if not self._has_base(onto, head) and not self._fetch(pull_request, onto):
            return self._files(head)
        if self.mirror.descends(head, onto) or self._version() < GIT_MERGES_TREES:
            return self._files(head)
        return self._merge(onto, head)

    def _fetch(self, pull_request: PullRequest, onto: str) -> bool:
        """Fetch its head, and history until it is known where it left the branch; False where that is too far back."""
        kept = f"{KEPT}{pull_request.number}"
        for depth in DEPTHS:
            # the branch as well, whose history would be cut off where that of the pull request ends
            branch = f"refs/heads/{self.branch}:refs/mvd/branch"
            self.mirror.fetch(depth, [branch, f"{pull_request.ref}:{kept}"])
            if self._say("rev-parse", "--verify", f"{kept}^{{commit}}") != pull_request.commit:
                raise Unavailable(
                    f"#{pull_request.number} has moved on from {pull_request.commit[:7]}",
                    "it is planned again",
                )
            if self._has_base(onto, pull_request.commit):
                return True
        return False

    def _merge(self, onto: str, head: str) -> str:
        status, out, complaint = self.mirror.run(
            "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", onto, head
        )
        tree, *clashes = [part for part in out.split("\0") if part]
        if status == 1 and clashes:
            more = f" and {len(clashes) - 1} more" if len(clashes) > 1 else ""
            raise StepFailed(f"conflicts with {self.branch} in {clashes[0]}{more}", f"merge {self.branch} into it")
        if status:
            raise self._damaged(complaint)
        return tree

    def _has_base(self, onto: str, head: str) -> bool:
        return self.mirror.place.exists() and self.mirror.run("merge-base", onto, head)[0] == 0

    def _files(self, commit: str) -> str:
        return self._say("rev-parse", "--verify", f"{commit}^{{tree}}")

    def _version(self) -> tuple[int, int]:
        found = re.search(r"(\d+)\.(\d+)", self.mirror.git("version")[1])
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def _say(self, *words: str) -> str:
        status, out, complaint = self.mirror.run(*words)
        if status:
            raise self._damaged(complaint)
        return out

    def _damaged(self, complaint: str) -> Unavailable:
        return Unavailable(f"cannot read {self.mirror.place}: {complaint.strip()}", "the next sync rebuilds it")
