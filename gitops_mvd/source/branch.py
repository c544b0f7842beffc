"""The config repository: a bare mirror of one branch, fetched shallow, and its files read at a commit.

A commit is taken when it builds on the last one and, where the settings want that, carries a good signature; until then
nothing of it is used.

There is no work tree, so nothing of the repository is ever checked out, linked to or run.  Git itself runs away from
the machine's own settings, with a deadline, and speaks the one protocol of the URL.  Secrets reach it through the
environment, never the command line.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from gitops_mvd.errors import MvdError, RevisionRefused, Unavailable
from gitops_mvd.model import Proposal, Revision
from gitops_mvd.report import redact
from gitops_mvd.settings import Verify
from gitops_mvd.source.address import BRANCH, COMPLAINTS, LOGIN, REFUSED, SSH, protocol
from gitops_mvd.source.anchor import Anchor
from gitops_mvd.source.merges import Merges
from gitops_mvd.source.signatures import TAGS, Guard, examining, shallow
from gitops_mvd.tree import GitTree, refuse_large

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a missing git is an error of the first fetch, not of the import
import git

Load = Callable[[bytes, str, str], bytes]

DEPTHS = (32, 1024)  # commits of history in which the last revision is looked for behind a new one
EVERYTHING = 2**31 - 1  # the depth that git takes for all of it
MOST_SINCE = 100  # commits
MOST_TAGS = 50  # that point at one commit, and may have to be looked at
FETCH_TIMEOUTS = 10  # a fetch may take that many times longer than a question

NOTHING: Mapping[str, str] = MappingProxyType({})


class Refusal(NamedTuple):
    """A tip that was not taken, and beside what: so that it is not fetched again at every look."""

    tip: str
    known: str
    tags: frozenset[str] | None  # None where they do not matter
    error: RevisionRefused


def no_token() -> str:
    """The token of a repository that wants none."""
    return ""


@dataclass
class Source:
    """One branch of the config repository, mirrored in the folder `mirror`, which nobody else may write to.

    `url` is https, ssh (also `git@host:path`), a `file://` URL or an absolute path; http too, with a token only where
    `insecure` says so.  ssh takes the deploy key `ssh_key` and the file `known_hosts`, both needed.  `token` is asked
    for anew whenever the server is, because some last an hour only, and `renew` is told of one that was refused: is
    there another one now?  `timeout` is the seconds that a question may take;
    a fetch may take ten times as long.  `verify` says whose signature a commit needs.  The file `anchor` has the commit
    that was taken last, for when the mirror is lost.  Raises MvdError for what can never work.
    """

    url: str
    branch: str
    mirror: Path
    token: Callable[[], str] = field(default=no_token, repr=False)
    renew: Callable[[str], bool] = field(default=lambda refused: False, repr=False)
    username: str = "x-access-token"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    insecure: bool = False
    allow_rewind: bool = False
    verify: Verify | None = None
    anchor: Path | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        self._protocol = protocol(self.url)
        if not BRANCH.fullmatch(self.branch):
            raise MvdError(f"{self.branch!r} is not the name of a branch")
        if self._protocol == "http" and self.token is not no_token and not self.insecure:
            raise MvdError(f"{self.url}: a token over http can be read on the way; use https, or say insecure: true")
        if self._protocol == "ssh" and not (self.ssh_key and self.known_hosts):
            raise MvdError(f"{self.url}: ssh needs both the deploy key (ssh_key) and known_hosts")
        if not _is_line(self.username):
            raise MvdError("the user name of the repository must be a single line")
        # Bound to the place: another repository or branch is begun anew instead of being taken for a rewind.
        name = hashlib.sha256(f"{self.url} {self.branch}".encode()).hexdigest()[:16]
        self._ref = f"refs/mvd/{name}"
        self._anchor = Anchor(self.anchor, name)
        self._latest: Revision | None = None
        self._refusal: Refusal | None = None
        self._tags: frozenset[str] | None = None  # those that were looked at for the tip
        self._sound = False  # is every object of the mirror known to be whole?
        aside = self.mirror.with_name(f"{self.mirror.name}.proposals")
        self._merges = Merges(aside, self.branch, self._run, self._fetch, DEPTHS)
        self._merges_sound = False

    def fetch(self) -> Revision:
        """The tip of the branch, in the mirror and ready to be read.  Raises Unavailable and keeps what there was.

        The server is asked for the tip first, and for objects only where that is new.  A tip that does not descend from
        the last one is refused unless `allow_rewind`, and so is one of which that can not be told within 1,024 commits,
        or one without the signature that `verify` wants: that raises RevisionRefused.  A damaged mirror is made anew.
        """
        tip = self._ask()
        if self._sound and self._latest and tip == self._latest.commit and not self._anchor.adrift:
            return self._latest
        with self._alone():
            here = self._known()
            known = here or self._anchor.read()
            self._refuse_again(tip, known)
            self._tags = None
            try:
                if tip != here or not self._whole():
                    tip = self._take(tip, known)
                elif not self._latest or tip != self._latest.commit:  # another process took it, by settings of its own
                    self._verify(self.mirror, tip, tip)
            except RevisionRefused as error:
                self._refusal = Refusal(error.commit, known, self._tags, error)
                raise
            self._sound, self._refusal = True, None
            self._latest = self._revision(tip)
            self._anchor.drop(tip)
        return self._latest

    def last(self) -> Revision | None:
        """What `fetch` returned last, in this process or an earlier one; asks nobody.

        None where it would be refused today, because `verify` wants something else by now.
        """
        if not self._latest and (known := self._known()):
            with contextlib.suppress(Unavailable):
                self._verify(self.mirror, known, known, ask=False)
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
            load = self._reader(self.mirror)
            return tuple(self._revision(commit, load) for commit in told) or (tip,)
        except Unavailable:
            return (tip,)

    def _first_parents(self, known: str, tip: str) -> list[str]:
        """Oldest first; nothing where it can not be told."""
        if not self._descends(self.mirror, tip, known):
            return []
        words = ("rev-list", "--first-parent", "--reverse", f"--max-count={MOST_SINCE}", f"{known}..{tip}")
        status, out, _ = self._run(f"--git-dir={self.mirror}", *words)
        told = out.split() if status == 0 else []
        return [] if shallow(self.mirror) & set(told) else told  # cut off, it says nothing of where it leads

    def merged(self, proposal: Proposal, onto: Revision) -> GitTree:
        """The files as they would be once a pull request was merged into `onto`.

        Where it left the branch too long ago to tell, or with a git older than 2.38, they are those of its own last
        commit.  Raises StepFailed where it can not be merged, Unavailable where it has moved on meanwhile.
        """
        with self._merging() as merges:
            tree = merges.tree(proposal, onto.commit)
        return GitTree(bytes.fromhex(tree), self._reader(merges.place))

    def keep_proposals(self, numbers: Collection[int]) -> None:
        """Let go of the pull requests that are not among these."""
        if self._merges.place.exists():
            with self._merging() as merges:
                merges.keep(numbers)

    @contextlib.contextmanager
    def _merging(self) -> Iterator[Merges]:
        """Hold what is there of pull requests; it is begun anew after any doubt."""
        place = self._merges.place
        with self._alone():
            if not self._merges_sound and not self._is_whole(place):
                _remove(place)
            _sweep(place)
            self._merges_sound = False
            yield self._merges
            self._merges_sound = True

    def ready(self) -> None:
        """Raises Unavailable where this server lacks what `verify` needs."""
        if self.verify:
            with examining(self.verify, self._run):
                pass

    def tree(self, revision: Revision) -> GitTree:
        """The files at a revision that `fetch` returned.  What can not be read in it raises Unavailable."""
        load = self._reader(self.mirror)
        headers = load(bytes.fromhex(revision.commit), "commit", revision.commit).split(b"\n", 1)
        return GitTree(bytes.fromhex(headers[0].removeprefix(b"tree ").decode()), load)

    def _reader(self, place: Path) -> Load:
        """Reads objects of a repository of ours, by a `git cat-file` that ends when the reader is no longer held."""
        reader = git.Git()
        reader.update_environment(**self._environment() | {"GIT_DIR": str(place)})

        def load(oid: bytes, kind: str, path: str) -> bytes:
            try:
                if kind == "blob":
                    refuse_large(path, reader.get_object_header(oid.hex())[2])
                content: bytes = reader.get_object_data(oid.hex())[3]
            except (git.exc.GitError, OSError, ValueError) as error:  # it has no such object, or has died over it
                raise self._damaged(place, path) from error
            whole = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).digest() == oid
            if not whole:
                raise self._damaged(place, path)
            return content

        return load

    def _damaged(self, place: Path, path: str) -> Unavailable:
        if place == self.mirror:
            self._sound, self._latest = False, None
        else:
            self._merges_sound = False
        return Unavailable(f"the mirror {place} is damaged at {path}", "it is made anew at the next look")

    def _ask(self) -> str:
        """The id of the branch's tip on the server."""
        ref = f"refs/heads/{self.branch}"
        lines = self._git("ls-remote", "--", self.url, ref, login=True).splitlines()
        tips = [tip for tip, _, name in (line.partition("\t") for line in lines) if name == ref]
        if not tips:
            raise Unavailable(f"{self._where} has no branch {self.branch}", "nothing is changed while it is missing")
        return tips[0]

    def _ask_tags(self, tip: str) -> dict[str, str]:
        """The annotated tags that point at the tip on the server: id -> name.  Only asked where tags are wanted."""
        if not self.verify or self.verify.mode != "tag":
            return {}
        lines = self._git("ls-remote", "--", self.url, "refs/tags/*", login=True).splitlines()
        found = {ref: oid for oid, _, ref in (line.partition("\t") for line in lines)}
        names = [ref.removeprefix("refs/tags/") for ref in found if found.get(f"{ref}^{{}}") == tip]
        return {found[f"refs/tags/{name}"]: name for name in sorted(names)[:MOST_TAGS] if BRANCH.fullmatch(name)}

    def _refuse_again(self, tip: str, known: str) -> None:
        """A tip that was refused stays so while it, what it has to build on, and its tags are the same."""
        last = self._refusal
        if not last or (last.tip, last.known) != (tip, known):
            return
        if last.tags is None or last.tags == frozenset(self._ask_tags(tip)):
            raise RevisionRefused(last.error.message, last.error.commit, last.error.hint)

    def _take(self, tip: str, known: str) -> str:
        """Fetch the tip, which may have moved on since it was asked for, into a mirror that is whole."""
        if not self._whole():
            return self._rebuild(known)
        try:
            return self._advance(self.mirror, known)
        except Unavailable:
            self._sound = False
            if self._whole():  # then it was not for the mirror's sake
                raise
            return self._rebuild(known)

    def _rebuild(self, known: str) -> str:
        """Make the mirror anew beside the old one, and put it into its place only when it is complete."""
        new, old = (self.mirror.with_name(f"{self.mirror.name}.{end}") for end in ("new", "old"))
        _remove(new, old)
        try:
            self._begin(new)
            tip = self._advance(new, known)
            if self.mirror.exists():
                self.mirror.rename(old)
            new.rename(self.mirror)
        finally:
            _remove(new, old)
        return tip

    def _begin(self, place: Path) -> None:
        place.mkdir(mode=0o700)
        self._git(f"--git-dir={place}", "init", "--quiet", "--bare", "--template=")

    def _advance(self, mirror: Path, known: str) -> str:
        """Fetch the tip and let it be the known one, once it is seen to follow from the one before and to be signed."""
        _sweep(mirror)
        for depth in (*DEPTHS, EVERYTHING) if known else (1,):
            self._fetch(mirror, depth, [f"refs/heads/{self.branch}:refs/mvd/fetched"])
            tip = self._git(f"--git-dir={mirror}", "rev-parse", "--verify", "refs/mvd/fetched^{commit}")
            if known and not self.allow_rewind and not self._descends(mirror, tip, known):
                if depth < DEPTHS[-1]:
                    continue
                raise self._rewound(known, tip)
            tag = self._verify(mirror, known, tip)
            if tag is None:
                continue
            self._git(f"--git-dir={mirror}", "update-ref", self._ref, tip)
            if tag:
                self._keep_tag(mirror, tag)
            return tip
        raise RevisionRefused(f"what is behind commit {tip[:7]} is cut off, so its signatures can not be seen", tip)

    def _fetch(self, place: Path, depth: int, refspecs: Sequence[str]) -> None:
        """Take refs from the server, with so many commits of history, into a repository of ours."""
        if not place.exists():
            self._begin(place)
        self._git(
            *(f"--git-dir={place}", "fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head"),
            *(() if depth == 0 else (f"--depth={depth}",)),
            *("--", self.url, *refspecs),
            timeout=self.timeout * FETCH_TIMEOUTS,
            login=True,
        )

    def _descends(self, mirror: Path, tip: str, known: str) -> bool:
        answer, _, _ = self._run(f"--git-dir={mirror}", "merge-base", "--is-ancestor", known, tip)
        return answer == 0

    def _rewound(self, known: str, tip: str) -> RevisionRefused:
        return RevisionRefused(
            f"{self._where}: branch {self.branch} went from {known[:7]} to {tip[:7]}, which does not build on it",
            tip,
            "go back with git revert instead of a reset or a force-push, or say allow_rewind: true",
        )

    # ---- signatures --------------------------------------------------------------------------------------------------

    def _verify(self, mirror: Path, known: str, tip: str, ask: bool = True) -> str | None:
        """What `Guard.admit` says; only with `ask` are tags looked for that the mirror does not have yet."""
        if not self.verify:
            return ""
        guard = Guard(self.verify, self._run)
        return guard.admit(mirror, known, tip, partial(self._fetch_tags, mirror, tip) if ask else dict)

    def _fetch_tags(self, mirror: Path, tip: str) -> dict[str, str]:
        tags = self._ask_tags(tip)
        self._tags = frozenset(tags)
        if tags:
            self._fetch(mirror, 0, [f"refs/tags/{name}:{TAGS}{oid}" for oid, name in tags.items()])
        return tags

    def _keep_tag(self, mirror: Path, tag: str) -> None:
        """Of the tags that were fetched, keep the one that let the tip through."""
        for ref in self._git(f"--git-dir={mirror}", "for-each-ref", "--format=%(refname)", TAGS).split():
            if ref != f"{TAGS}{tag}":
                self._git(f"--git-dir={mirror}", "update-ref", "-d", ref)

    # ---- what is known -----------------------------------------------------------------------------------------------

    def _known(self) -> str:
        """The last tip taken, or "" where there is no telling."""
        if not self.mirror.is_dir():
            return ""
        status, said, _ = self._run(f"--git-dir={self.mirror}", "rev-parse", "--verify", "--quiet", self._ref)
        return said if status == 0 else ""

    def _whole(self) -> bool:
        """Can every object of the mirror be read?  Looked for at the first fetch of a process, and after any doubt."""
        if not self._sound and self._known():
            self._sound = self._is_whole(self.mirror)
        return self._sound

    def _is_whole(self, place: Path) -> bool:
        check = ("fsck", "--no-dangling", "--no-progress", "--no-reflogs")
        return self._run(f"--git-dir={place}", *check, timeout=self.timeout * FETCH_TIMEOUTS)[0] == 0

    def _revision(self, tip: str, load: Load | None = None) -> Revision:
        load = load or self._reader(self.mirror)
        _, _, message = load(bytes.fromhex(tip), "commit", tip).partition(b"\n\n")
        return Revision(tip, self.branch, message.decode(errors="replace").partition("\n")[0])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the mirror against other processes, so that any lock file of git's inside it is a left-over."""
        try:
            self.mirror.parent.mkdir(parents=True, exist_ok=True)
            lock = self.mirror.with_name(f"{self.mirror.name}.lock").open("w")
        except OSError as error:
            raise Unavailable(f"the mirror {self.mirror} can not be written: {error.strerror}") from error
        with lock:
            deadline = time.monotonic() + self.timeout
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"another mvd is busy with the mirror {self.mirror}") from None
                    time.sleep(0.05)
            try:
                yield
            except OSError as error:
                raise Unavailable(f"the mirror {self.mirror} can not be written: {error.strerror}") from error

    @property
    def _where(self) -> str:
        """The URL as it may be shown."""
        return redact(self.url, [])

    def _git(self, *words: str, timeout: float = 0, login: bool = False) -> str:
        """What git says to a command that must succeed."""
        status, out, complaint = self._run(*words, timeout=timeout, login=login)
        if status == 0:
            return out
        for pattern, (sentence, hint) in COMPLAINTS.items():
            if re.search(pattern, complaint):
                raise Unavailable(f"{self._where} {sentence}", hint)
        last = complaint.strip().rpartition("\n")[2]
        raise Unavailable(f"{self._where} could not be read: {last or f'git ended with {status}'}")

    def _run(
        self,
        *words: str,
        timeout: float = 0,
        login: bool = False,
        settings: Mapping[str, str] = NOTHING,
        environment: Mapping[str, str] = NOTHING,
    ) -> tuple[int, str, str]:
        """The exit status of a git command, what it printed, and what it complained about, without the token.

        Only one that asks the server gets the `login`: the mirror is read without anybody's leave.
        """
        token = self.token() if login else ""
        ran = self._run_with(token, words, timeout, settings, environment)
        if token and ran[0] and re.search(REFUSED, ran[2]) and self.renew(token):
            ran = self._run_with(self.token(), words, timeout, settings, environment)
        return ran

    def _run_with(
        self,
        token: str,
        words: Sequence[str],
        timeout: float,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> tuple[int, str, str]:
        if not _is_line(token):
            raise Unavailable("the token of the repository must be a single line", "look at the file that it lies in")
        try:
            status, out, complaint = git.Git().execute(
                ["git", *words],
                with_extended_output=True,
                with_exceptions=False,
                kill_after_timeout=timeout or self.timeout,
                env=self._environment(token, settings) | dict(environment),
            )
        except git.exc.GitCommandNotFound as error:
            raise Unavailable("git is not installed", "apt-get install git") from error
        except OSError as error:
            raise Unavailable(f"git can not be run: {error.strerror}") from error
        return status, str(out), redact(str(complaint), [token])

    def _environment(self, token: str = "", more: Mapping[str, str] = NOTHING) -> dict[str, str]:
        """What git is told behind its command line: nothing of the machine's or the user's own settings."""
        origin = urllib.parse.urlsplit(self.url)
        settings = {
            "credential.helper": "",
            "core.hooksPath": os.devnull,
            "core.fsmonitor": "false",
            "gc.autoDetach": "false",
            "fetch.recurseSubmodules": "false",
            "http.lowSpeedLimit": "100",
            "http.lowSpeedTime": str(max(1, int(self.timeout))),
            **more,
        }
        if token and self._protocol in ("https", "http"):
            settings[f"credential.{origin.scheme}://{origin.netloc}.helper"] = LOGIN
        environment = {
            "HOME": "/nonexistent",
            "GIT_DIR": "/nonexistent",  # not the repository that somebody happens to stand in
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": self._protocol,
            "GIT_SSH_COMMAND": SSH,
            "GIT_SSH_VARIANT": "ssh",
            "MVD_USERNAME": self.username,
            "MVD_TOKEN": token,
            "MVD_SSH_KEY": str(self.ssh_key or ""),
            "MVD_KNOWN_HOSTS": str(self.known_hosts or ""),
            "MVD_SECONDS": str(max(1, int(self.timeout))),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for n, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
        return environment


def _is_line(text: str) -> bool:
    return not set(text) & set("\r\n\0")


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sweep(mirror: Path) -> None:
    """Remove what a git that was killed has left behind; we hold the mirror alone, so nobody else's."""
    for pattern in ("*.lock", "refs/**/*.lock", "objects/*/tmp_*", "objects/tmp_*"):
        for left in mirror.glob(pattern):
            left.unlink(missing_ok=True)
