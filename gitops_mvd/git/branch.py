"""One branch of the config repository: which commit is followed, which is refused, and the commits since.

A commit is followed if it builds on the last one and has a good signature, if the settings require one.  Until then
nothing of it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gitops_mvd.config.settings.repository import Verify
from gitops_mvd.core.errors import MvdError, RevisionRefused, Unavailable
from gitops_mvd.core.model import PullRequest, Revision
from gitops_mvd.git.address import BRANCH, protocol
from gitops_mvd.git.anchor import Anchor
from gitops_mvd.git.command import Command, Load
from gitops_mvd.git.guard import Guard
from gitops_mvd.git.merges import Merges
from gitops_mvd.git.mirror import DEPTHS, EVERYTHING, Mirror
from gitops_mvd.git.trailers import trailers_of
from gitops_mvd.git.tree import GitTree

MOST_SINCE = 100  # commits
FETCHED = "refs/mvd/fetched"  # the tip that is not checked yet
COMMITTED = re.compile(rb"^committer .*> ([0-9]{1,18}) [+-][0-9]+$", re.MULTILINE)  # in a commit: who, and when


class Refusal(NamedTuple):
    """A tip that was refused, and what it was compared with: it is not fetched again while both stay the same."""

    tip: str
    known: str
    tags: frozenset[str] | None  # None if they do not matter
    error: RevisionRefused


_AUTHOR = re.compile(r"^author (.*?) <.*> -?\d+ [+-]\d+$", re.MULTILINE)
_COMMITTED = re.compile(r"^committer .*> (\d+) [+-]\d+$", re.MULTILINE)


def _author(head: str) -> tuple[str, float]:
    """Who wrote a commit, and when it was made, of the lines before its message; "" and 0 for what is not there."""
    author, committed = _AUTHOR.search(head), _COMMITTED.search(head)
    return author[1] if author else "", float(committed[1]) if committed else 0.0


def read_revision(load: Load, commit: str, branch: str) -> Revision:
    head, _, message = load(bytes.fromhex(commit), "commit", commit).partition(b"\n\n")
    author, at = _author(head.decode(errors="replace"))
    return Revision(commit, branch, message.decode(errors="replace").partition("\n")[0], author, at)


def no_token() -> str:
    """The token of a repository that needs none."""
    return ""


@dataclass
class Source:
    """One branch of the config repository, mirrored in the folder `mirror`, which nobody else may write to.

    `url` is https, ssh (also `git@host:path`), a `file://` URL or an absolute path; http too, with a token only where
    `insecure` says so.  ssh takes the deploy key `ssh_key` and the file `known_hosts`, both needed.  `ca_file` has
    the authority that is trusted for https, "" for those of this machine.  `token` is
    called for every request, as some last only an hour, and `renew` with a token that was refused: it returns whether
    there is another one now.  `timeout` is the seconds that a question may take; a fetch may take ten times as long.
    `verify` says whose signature a commit needs.  The file `anchor` has the commit that was taken last, for when the
    mirror is lost.  Raises MvdError for what can never work.
    """

    url: str
    branch: str
    mirror: Path
    token: Callable[[], str] = field(default=no_token, repr=False)
    renew: Callable[[str], bool] = field(default=lambda refused: False, repr=False)
    username: str = "x-access-token"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    ca_file: str = ""
    insecure: bool = False
    allow_rewind: bool = False
    verify: Verify | None = None
    anchor: Path | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        spoken = protocol(self.url)
        if not BRANCH.fullmatch(self.branch):
            raise MvdError(f"{self.branch!r} is not the name of a branch")
        if spoken == "http" and self.token is not no_token and not self.insecure:
            raise MvdError(f"{self.url}: a token over http can be read on the way; use https, or say insecure: true")
        if spoken == "ssh" and not (self.ssh_key and self.known_hosts):
            raise MvdError(f"{self.url}: ssh needs both the deploy key (ssh_key) and known_hosts")
        # Bound to the place: another repository or branch is begun anew instead of being taken for a rewind.
        name = hashlib.sha256(f"{self.url} {self.branch}".encode()).hexdigest()[:16]
        self._ref = f"refs/mvd/{name}"
        self._git = Command(
            url=self.url,
            protocol=spoken,
            token=self.token,
            renew=self.renew,
            username=self.username,
            ssh_key=self.ssh_key,
            known_hosts=self.known_hosts,
            ca_file=self.ca_file,
            timeout=self.timeout,
        )
        self._mirror = Mirror(self.mirror, self._git, on_damage=self._forget)
        self._merges = Merges(Mirror(self.mirror.with_name(f"{self.mirror.name}.proposals"), self._git), self.branch)
        self._anchor = Anchor(self.anchor, name)
        self._guard = Guard(self.verify, self._git)
        self._latest: Revision | None = None
        self._tree: GitTree | None = None  # the one that was asked for last
        self._refusal: Refusal | None = None

    def fetch(self, *, expected: bool = False) -> Revision:
        """The tip of the branch, in the mirror and ready to be read.  Raises Unavailable and keeps what there was.

        The server is asked for the tip first, and for objects only where that is new; if a new one is `expected`, for
        its objects at once.  A tip that does not descend from
        the last one is refused unless `allow_rewind`, and so is one if that is unknown within 1,024 commits,
        or one without the signature that `verify` wants: that raises RevisionRefused.  A damaged mirror is made anew.
        """
        if expected and (found := self._fetch_at_once()):
            return found
        tip = self._ask()
        if self._mirror.sound and self._latest and tip == self._latest.commit and not self._anchor.adrift:
            return self._latest
        with self._mirror.alone():
            here = self._known()
            known = here or self._anchor.read()
            self._refuse_again(tip, known)
            with self._refusing(known):
                if tip != here or not self._whole():
                    tip = self._take(tip, known)
                elif not self._latest or tip != self._latest.commit:  # another process took it, by settings of its own
                    self._guard.admit(self._mirror, tip, tip)
            return self._follow(tip)

    def _fetch_at_once(self) -> Revision | None:
        """The tip, fetched without asking for it first; None if that failed, whatever the reason."""
        if not self._mirror.sound or not self._latest:
            return None
        with self._mirror.alone():
            if not (known := self._known()):
                return None
            with self._refusing(known):
                try:
                    return self._follow(self._advance(self._mirror, known, patient=False))
                except RevisionRefused:
                    raise
                except Unavailable:
                    return None

    @contextlib.contextmanager
    def _refusing(self, known: str) -> Iterator[None]:
        """A tip that is refused inside is remembered, with what it was to build on."""
        self._guard.seen = None
        try:
            yield
        except RevisionRefused as error:
            self._refusal = Refusal(error.commit, known, self._guard.seen, error)
            raise

    def _follow(self, tip: str) -> Revision:
        self._mirror.sound, self._refusal = True, None
        self._latest = self._revision(tip)
        self._anchor.drop(tip)
        return self._latest

    def last(self) -> Revision | None:
        """What `fetch` returned last, in this process or an earlier one; asks nobody.

        None where it would be refused today, because `verify` wants something else by now.
        """
        if not self._latest and (known := self._known()):
            with contextlib.suppress(Unavailable):
                self._guard.admit(self._mirror, known, known, ask=False)
                self._latest = self._revision(known)
        return self._latest

    def since(self, known: Revision, tip: Revision) -> tuple[Revision, ...]:
        """The commits of the branch itself after `known`, up to and with `tip`, oldest first, at most the last hundred.

        From the mirror alone.  Only the tip, where the mirror does not have the history to tell.
        """
        if known.commit == tip.commit:
            return ()
        try:
            told = self._first_parents(known.commit, tip.commit)
            load = self._mirror.reader()
            return tuple(self._revision(commit, load) for commit in told) or (tip,)
        except Unavailable:
            return (tip,)

    def line(self, tip: Revision, most: int) -> tuple[tuple[Revision, ...], bool]:
        """The commits of the branch itself up to `tip`, oldest first, and whether the first of them is the very first.

        At most so many.  If the mirror has the tip alone, some history is fetched first, if the server answers.
        """
        commits = [*self._mirror.line(tip.commit, most)]
        if len(commits) == 1 and self._mirror.cut():
            with contextlib.suppress(Unavailable), self._mirror.alone():
                self._mirror.fetch(DEPTHS[0], [f"refs/heads/{self.branch}:{FETCHED}"])
            commits = [*self._mirror.line(tip.commit, most)]
        load = self._mirror.reader()
        is_whole = commits[-1] not in self._mirror.cut() and len([*self._mirror.line(commits[-1], 2)]) == 1
        return tuple(self._revision(commit, load) for commit in reversed(commits)), is_whole

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        """The trailers of a commit's message, by name in lower case; none if it lacks the signature that is wanted."""
        load = self._mirror.reader()
        message = load(bytes.fromhex(revision.commit), "commit", revision.commit).partition(b"\n\n")[2]
        found = trailers_of(message.decode(errors="replace"))
        return found if found and self._guard.vouches(self._mirror, revision.commit) else {}

    def committed(self, revision: Revision) -> int:
        """When a revision was committed, in seconds since 1970, by the clock of whoever did; 0 if it does not say."""
        head = self._mirror.reader()(bytes.fromhex(revision.commit), "commit", revision.commit).partition(b"\n\n")[0]
        told = COMMITTED.search(head)
        return int(told[1]) if told else 0

    def builds_on(self, revision: Revision, commit: str) -> bool:
        """Is that commit an earlier one of the same branch, as far as the mirror can tell?"""
        is_commit = re.fullmatch(r"[0-9a-f]{40,64}", commit)
        return bool(is_commit) and self._mirror.descends(revision.commit, commit)

    def merged(self, pull_request: PullRequest, onto: Revision) -> GitTree:
        """The files as they would be once a pull request was merged into `onto`.

        Where it left the branch too long ago to tell, or with a git older than 2.38, they are those of its own last
        commit.  Raises StepFailed if it cannot be merged, Unavailable if it has moved on meanwhile.
        """
        with self._merges.mirror.alone():
            return self._merges.tree(pull_request, onto.commit)

    def proposed(self, root: bytes) -> GitTree:
        """The files of the tree with that id, which `merged` has returned, maybe in another process."""
        return GitTree(root, self._merges.mirror.reader())

    def keep_pull_requests(self, numbers: Collection[int]) -> None:
        """Forget the pull requests that are not among these."""
        if self._merges.mirror.place.exists():
            with self._merges.mirror.alone():
                self._merges.keep(numbers)

    def pack(self, is_awaited: Callable[[], bool]) -> None:
        """Pack the mirror if there is much to pack, unless it is awaited for something else, or soon is."""
        self._mirror.pack(is_awaited)

    def pack_pull_requests(self, is_awaited: Callable[[], bool]) -> None:
        """The same for what was fetched of pull requests."""
        self._merges.mirror.close()
        self._merges.mirror.pack(is_awaited)

    def close(self) -> None:
        """End what reads the mirrors; whoever reads on starts it again."""
        self._mirror.close()
        self._merges.mirror.close()

    def ready(self) -> None:
        """Raises Unavailable if this server lacks what `verify` needs."""
        self._guard.ready()

    def tree(self, revision: Revision) -> GitTree:
        """The files at a revision that `fetch` returned.  Reading a damaged one raises Unavailable."""
        load = self._mirror.reader()
        headers = load(bytes.fromhex(revision.commit), "commit", revision.commit).split(b"\n", 1)
        self._tree = GitTree(bytes.fromhex(headers[0].removeprefix(b"tree ").decode()), load, self._tree)
        return self._tree

    def _ask(self) -> str:
        """The id of the branch's tip on the server."""
        ref = f"refs/heads/{self.branch}"
        tips = self._git.refs(ref)
        if ref not in tips:
            where = self._git.where
            raise Unavailable(f"{where} has no branch {self.branch}", "nothing is changed while it is missing")
        return tips[ref]

    def _known(self) -> str:
        """The last commit followed, "" if it is unknown."""
        return self._mirror.commit_at(self._ref)

    def _refuse_again(self, tip: str, known: str) -> None:
        """A tip that was refused stays so while it, what it has to build on, and its tags are the same."""
        last = self._refusal
        if not last or (last.tip, last.known) != (tip, known):
            return
        if last.tags is None or last.tags == frozenset(self._guard.tags(tip)):
            raise RevisionRefused(last.error.message, last.error.commit, last.error.hint)

    def _whole(self) -> bool:
        """Does the mirror have a tip of this branch, and can every object of it be read?"""
        return self._mirror.sound or (self._known() != "" and self._mirror.whole())

    def _take(self, tip: str, known: str) -> str:
        """Fetch the tip, which may have moved on since it was asked for, into a mirror that is whole."""
        if not self._whole():
            return self._rebuild(known)
        try:
            return self._advance(self._mirror, known)
        except Unavailable:
            self._mirror.sound = False
            if self._whole():  # then it was not for the mirror's sake
                raise
            return self._rebuild(known)

    def _rebuild(self, known: str) -> str:
        with self._mirror.anew() as mirror:
            return self._advance(mirror, known)

    def _advance(self, mirror: Mirror, known: str, patient: bool = True) -> str:
        """Fetch the tip and let it be the known one, once it is seen to follow from the one before and to be signed."""
        mirror.sweep()
        for depth in (*DEPTHS, EVERYTHING) if known else (1,):
            mirror.fetch(depth, [f"refs/heads/{self.branch}:{FETCHED}"], patient)
            tip = mirror.fetched(FETCHED)
            if known and not self.allow_rewind and not mirror.descends(tip, known):
                if depth < DEPTHS[-1]:
                    continue
                raise self._rewound(known, tip)
            tag = self._guard.admit(mirror, known, tip)
            if tag is None:
                continue
            if tip != known or mirror.commit_at(self._ref) != tip:
                mirror.say("update-ref", self._ref, tip)
            if tag:
                self._guard.keep(mirror, tag)
            return tip
        raise RevisionRefused(f"what is behind commit {tip[:7]} is cut off, so its signatures cannot be checked", tip)

    def _rewound(self, known: str, tip: str) -> RevisionRefused:
        return RevisionRefused(
            f"{self._git.where}: branch {self.branch} went from {known[:7]} to {tip[:7]}, which does not build on it",
            tip,
            "go back with git revert instead of a reset or a force-push, or say allow_rewind: true",
        )

    def _first_parents(self, known: str, tip: str) -> list[str]:
        """Oldest first; empty if it is unknown."""
        line = [*self._mirror.line(tip, MOST_SINCE + 1)]
        if known in line:
            return line[: line.index(known)][::-1]
        if not self._mirror.descends(tip, known):
            return []
        words = ("rev-list", "--first-parent", "--reverse", f"--max-count={MOST_SINCE}", f"{known}..{tip}")
        status, out, _ = self._mirror.run(*words)
        told = out.split() if status == 0 else []
        return [] if self._mirror.cut() & set(told) else told  # cut off, it says nothing of where it leads

    def _revision(self, commit: str, load: Load | None = None) -> Revision:
        return read_revision(load or self._mirror.reader(), commit, self.branch)

    def _forget(self) -> None:
        """Forget what was fetched: the mirror is damaged."""
        self._latest = None
