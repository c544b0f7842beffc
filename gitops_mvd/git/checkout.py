"""A clone of the config repository on somebody's computer, fetched with their own login, and read without a change."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.text import without_login
from gitops_mvd.git.address import BRANCH
from gitops_mvd.git.branch import no_token, read_revision
from gitops_mvd.git.child import Limits, run
from gitops_mvd.git.command import Command
from gitops_mvd.git.mirror import Mirror
from gitops_mvd.git.tree import GitTree

SECONDS = 10.0  # for a question about the clone
FETCH_SECONDS = 120.0


@dataclass
class Checkout:
    """The branch of `origin` that the clone in `folder` follows.  Raises MvdError for what is no clone of anything."""

    folder: Path
    branch: str
    origin: str = field(default="", init=False)  # its address, without a login

    def __post_init__(self) -> None:
        if not BRANCH.fullmatch(self.branch):
            raise MvdError(f"{self.branch!r} is not the name of a branch")
        place = self._git("rev-parse", "--path-format=absolute", "--git-common-dir")
        self.origin = without_login(self._git("config", "--get", "remote.origin.url"))
        if not place or not self.origin:
            hint = "go into the clone of the config repository, or name it: --repository PATH or URL"
            raise MvdError(f"{self.folder} is no clone with a remote called origin", hint)
        reading = Command(str(self.folder), "file", no_token, lambda refused: False, "mvd", None, None, "", SECONDS)
        self._mirror = Mirror(Path(place), reading)

    def fetch(self) -> Revision:
        """The tip of the branch at `origin`.  No branch and no file of the clone is changed.  Raises Unavailable."""
        words = ["git", "-C", str(self.folder), "fetch", "--quiet", "--no-tags", "origin", f"refs/heads/{self.branch}"]
        ended = run(words, {**os.environ, "GIT_TERMINAL_PROMPT": "0"}, Limits(FETCH_SECONDS, memory=4 << 30))
        if ended.status:
            last = ended.complaint.strip().rpartition("\n")[2]
            raise Unavailable(f"cannot fetch {self.branch} from {self.origin}: {last}", "does `git fetch` work there?")
        return read_revision(self._mirror.reader(), self._git("rev-parse", "--verify", "FETCH_HEAD"), self.branch)

    def line(self, tip: Revision, most: int) -> tuple[tuple[Revision, ...], bool]:
        """As `Source.line`, as far back as the clone goes."""
        commits, load = [*self._mirror.line(tip.commit, most)], self._mirror.reader()
        return tuple(read_revision(load, commit, self.branch) for commit in reversed(commits)), len(commits) < most

    def tree(self, revision: Revision) -> GitTree:
        """The files at a revision."""
        load = self._mirror.reader()
        root = load(bytes.fromhex(revision.commit), "commit", revision.commit).split(b"\n", 1)[0]
        return GitTree(bytes.fromhex(root.removeprefix(b"tree ").decode()), load)

    def close(self) -> None:
        self._mirror.close()

    def _git(self, *words: str) -> str:
        """What git prints, "" if it cannot say."""
        ended = run(["git", "-C", str(self.folder), *words], os.environ, Limits(SECONDS))
        return ended.output.decode(errors="replace").strip() if ended.status == 0 else ""
