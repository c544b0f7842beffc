"""The config repository: a bare mirror of one branch, fetched shallow, and its files read at a commit.

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd.errors import MvdError, Unavailable
from gitops_mvd.model import Revision
from gitops_mvd.report import redact
from gitops_mvd.tree import GitTree, refuse_large

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a missing git is an error of the first fetch, not of the import
import git

DEPTHS = (32, 1024)  # commits of history in which the last revision is looked for behind a new one
FETCH_TIMEOUTS = 10  # a fetch may take that many times longer than a question

BRANCH = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.))[^\s\\~^:?*\[\x00-\x20\x7f]+(?<![/.])(?<!\.lock)")
SCP = re.compile(r"[\w.][\w.-]*@[\w.][\w.-]*:(?!:).+")

# Git asks this for a login, but only on behalf of the server named in the key of that setting: a redirect gets nothing.
LOGIN = r"""!f() { if [ "$1" = get ]; then printf 'username=%s\npassword=%s\n' "$MVD_USERNAME" "$MVD_TOKEN"; fi; }; f"""

# Git hands this to a shell: so it is constant, and what varies is in the environment.
SSH = (
    'ssh -F none -i "$MVD_SSH_KEY" -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes'
    ' -o StrictHostKeyChecking=yes -o UserKnownHostsFile="\\"$MVD_KNOWN_HOSTS\\"" -o GlobalKnownHostsFile=none'
    ' -o UpdateHostKeys=no -o ConnectTimeout="$MVD_SECONDS" -o ServerAliveInterval=15 -o ServerAliveCountMax=2'
)

# What git, curl and ssh say: what that means, and what to do about it.  The first that is found counts.
COMPLAINTS = {
    r"did not complete in|timed out|Operation too slow": ("did not answer in time", ""),
    r"No space left on device|Disk quota exceeded": (
        "could not be fetched: the disk is full",
        "make room for the mirror",
    ),
    r"Could not resolve host": ("could not be reached: its name is unknown", "check the URL and the DNS"),
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED": (
        "shows a host key that is not in known_hosts",
        "compare it with the keys that the forge publishes, and add it",
    ),
    r"UNPROTECTED PRIVATE KEY": ("could not be asked: others may read the deploy key", "chmod 600 the key"),
    r"Load key|Identity file .* not accessible": (
        "could not be asked: the deploy key can not be read",
        "check ssh_key",
    ),
    r"Permission denied \(|Authentication failed|could not read (Username|Password)|returned error: 40[13]": (
        "refused the login",
        "check the credentials, and that they may read this repository",
    ),
    r"detected dubious ownership": ("belongs to another user", "give it to the user that the daemon runs as"),
    r"[Rr]epository .*not found|not appear to be a git repository|returned error: 404|does not exist": (
        "has no such repository",
        "check the URL, and that the credentials may read it",
    ),
    r"certificate|SSL|TLS": ("could not be trusted: its TLS certificate was not accepted", "check the CA certificates"),
    r"returned error: \d+": ("answered with an error", "it may mend by itself"),
    r"is this a git repository": ("answered, but not as a Git server does", "check the URL"),
    r"onnect to|refused|unreachable|No route|Empty reply|hung up|reset by": ("does not answer", "check that it runs"),
}


@dataclass
class Source:
    """One branch of the config repository, mirrored in the folder `mirror`, which nobody else may write to.

    `url` is https, ssh (also `git@host:path`), a `file://` URL or an absolute path; http too, with a token only where
    `insecure` says so.  ssh takes the deploy key `ssh_key` and the file `known_hosts`, both needed.  `timeout` is the
    seconds that a question may take; a fetch may take ten times as long.  Raises MvdError for what can never work.
    """

    url: str
    branch: str
    mirror: Path
    token: str = field(default="", repr=False)
    username: str = "x-access-token"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    insecure: bool = False
    allow_rewind: bool = False
    timeout: float = 30.0

    def __post_init__(self) -> None:
        self._protocol = _protocol(self.url)
        if not BRANCH.fullmatch(self.branch):
            raise MvdError(f"{self.branch!r} is not the name of a branch")
        if self._protocol == "http" and self.token and not self.insecure:
            raise MvdError(f"{self.url}: a token over http can be read on the way; use https, or say insecure: true")
        if self._protocol == "ssh" and not (self.ssh_key and self.known_hosts):
            raise MvdError(f"{self.url}: ssh needs both the deploy key (ssh_key) and known_hosts")
        if any(character in self.token + self.username for character in "\r\n\0"):
            raise MvdError("the token and the user name of the repository must be single lines")
        # Bound to the place: another repository or branch is begun anew instead of being taken for a rewind.
        self._ref = f"refs/mvd/{hashlib.sha256(f'{self.url} {self.branch}'.encode()).hexdigest()[:16]}"
        self._latest: Revision | None = None
        self._refused = ""  # the tip of a rewind, so that it is not fetched again at every look
        self._sound = False  # is every object of the mirror known to be whole?

    def fetch(self) -> Revision:
        """The tip of the branch, in the mirror and ready to be read.  Raises Unavailable and keeps what there was.

        The server is asked for the tip first, and for objects only where that is new.  A tip that does not descend from
        the last one is refused unless `allow_rewind`, and so is one of which that can not be told within 1,024 commits.
        A damaged mirror is made anew.
        """
        tip = self._ask()
        if self._sound and self._latest and tip == self._latest.commit:
            return self._latest
        with self._alone():
            known = self._known()
            if tip != known or not self._whole():
                tip = self._take(tip, known)
            self._sound = True
            self._latest = self._revision(tip)
        return self._latest

    def last(self) -> Revision | None:
        """What `fetch` returned last, in this process or an earlier one; asks nobody."""
        if not self._latest and (known := self._known()):
            self._latest = self._revision(known)
        return self._latest

    def since(self, known: Revision, tip: Revision) -> tuple[Revision, ...]:
        """stub until the source branch is merged"""
        return (tip,)

    def tree(self, revision: Revision) -> GitTree:
        """The files at a revision that `fetch` returned.  What can not be read in it raises Unavailable."""
        load = self._reader()
        headers = load(bytes.fromhex(revision.commit), "commit", revision.commit).split(b"\n", 1)
        return GitTree(bytes.fromhex(headers[0].removeprefix(b"tree ").decode()), load)

    def _reader(self) -> Callable[[bytes, str, str], bytes]:
        """Reads objects of the mirror, by a `git cat-file` that ends when the reader is no longer held."""
        reader = git.Git()
        reader.update_environment(**self._environment() | {"GIT_DIR": str(self.mirror)})

        def load(oid: bytes, kind: str, path: str) -> bytes:
            try:
                if kind == "blob":
                    refuse_large(path, reader.get_object_header(oid.hex())[2])
                content: bytes = reader.get_object_data(oid.hex())[3]
            except (git.exc.GitError, OSError, ValueError) as error:  # it has no such object, or has died over it
                raise self._damaged(path) from error
            whole = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).digest() == oid
            if not whole:
                raise self._damaged(path)
            return content

        return load

    def _damaged(self, path: str) -> Unavailable:
        self._sound, self._latest = False, None
        return Unavailable(f"the mirror {self.mirror} is damaged at {path}", "it is made anew at the next look")

    def _ask(self) -> str:
        """The id of the branch's tip on the server."""
        ref = f"refs/heads/{self.branch}"
        lines = self._git("ls-remote", "--", self.url, ref).splitlines()
        tips = [tip for tip, _, name in (line.partition("\t") for line in lines) if name == ref]
        if not tips:
            raise Unavailable(f"{self._where} has no branch {self.branch}", "nothing is changed while it is missing")
        return tips[0]

    def _take(self, tip: str, known: str) -> str:
        """Fetch the tip, which may have moved on since it was asked for, into a mirror that is whole."""
        if tip == self._refused and not self.allow_rewind:
            raise self._rewound(known, tip)
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
            new.mkdir(mode=0o700)
            self._git(f"--git-dir={new}", "init", "--quiet", "--bare", "--template=")
            tip = self._advance(new, known)
            if self.mirror.exists():
                self.mirror.rename(old)
            new.rename(self.mirror)
        finally:
            _remove(new, old)
        return tip

    def _advance(self, mirror: Path, known: str) -> str:
        """Fetch the tip and let it be the known one, once it is seen to follow from the one before."""
        _sweep(mirror)
        for depth in (1,) if self.allow_rewind or not known else DEPTHS:
            self._git(
                *(f"--git-dir={mirror}", "fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head"),
                *(f"--depth={depth}", "--", self.url, f"refs/heads/{self.branch}:refs/mvd/fetched"),
                timeout=self.timeout * FETCH_TIMEOUTS,
            )
            tip = self._git(f"--git-dir={mirror}", "rev-parse", "--verify", "refs/mvd/fetched^{commit}")
            if self.allow_rewind or not known or self._descends(mirror, tip, known):
                self._git(f"--git-dir={mirror}", "update-ref", self._ref, tip)
                return tip
        self._refused = tip
        raise self._rewound(known, tip)

    def _descends(self, mirror: Path, tip: str, known: str) -> bool:
        answer, _ = self._run(f"--git-dir={mirror}", "merge-base", "--is-ancestor", known, tip)
        return answer == 0

    def _rewound(self, known: str, tip: str) -> Unavailable:
        return Unavailable(
            f"{self._where}: branch {self.branch} went from {known[:7]} to {tip[:7]}, which does not build on it",
            "go back with git revert instead of a reset or a force-push, or say allow_rewind: true",
        )

    def _known(self) -> str:
        """The last tip taken, or "" where there is no telling."""
        if not self.mirror.is_dir():
            return ""
        status, said = self._run(f"--git-dir={self.mirror}", "rev-parse", "--verify", "--quiet", self._ref)
        return said if status == 0 else ""

    def _whole(self) -> bool:
        """Can every object of the mirror be read?  Looked for at the first fetch of a process, and after any doubt."""
        if not self._sound and self._known():
            check = ("fsck", "--no-dangling", "--no-progress", "--no-reflogs")
            self._sound = self._run(f"--git-dir={self.mirror}", *check, timeout=self.timeout * FETCH_TIMEOUTS)[0] == 0
        return self._sound

    def _revision(self, tip: str) -> Revision:
        _, _, message = self._reader()(bytes.fromhex(tip), "commit", tip).partition(b"\n\n")
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
        return redact(self.url, [self.token])

    def _git(self, *words: str, timeout: float = 0) -> str:
        """What git says to a command that must succeed."""
        status, said = self._run(*words, timeout=timeout)
        if status == 0:
            return said
        for pattern, (sentence, hint) in COMPLAINTS.items():
            if re.search(pattern, said):
                raise Unavailable(f"{self._where} {sentence}", hint)
        last = redact(said, [self.token]).strip().rpartition("\n")[2]
        raise Unavailable(f"{self._where} could not be read: {last or f'git ended with {status}'}")

    def _run(self, *words: str, timeout: float = 0) -> tuple[int, str]:
        """The exit status of a git command, and what it printed or, where that is not 0, what it complained about."""
        try:
            status, out, complaint = git.Git().execute(
                ["git", *words],
                with_extended_output=True,
                with_exceptions=False,
                kill_after_timeout=timeout or self.timeout,
                env=self._environment(),
            )
        except git.exc.GitCommandNotFound as error:
            raise Unavailable("git is not installed", "apt-get install git") from error
        except OSError as error:
            raise Unavailable(f"git can not be run: {error.strerror}") from error
        return status, str(complaint if status else out)

    def _environment(self) -> dict[str, str]:
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
        }
        if self.token and self._protocol in ("https", "http"):
            settings[f"credential.{origin.scheme}://{origin.netloc}.helper"] = LOGIN
        environment = {
            "HOME": "/nonexistent",
            "GIT_DIR": "/nonexistent",  # not the repository that somebody happens to stand in
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": self._protocol,
            "GIT_SSH_COMMAND": SSH,
            "GIT_SSH_VARIANT": "ssh",
            "MVD_USERNAME": self.username,
            "MVD_TOKEN": self.token,
            "MVD_SSH_KEY": str(self.ssh_key or ""),
            "MVD_KNOWN_HOSTS": str(self.known_hosts or ""),
            "MVD_SECONDS": str(max(1, int(self.timeout))),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for n, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
        return environment


def _protocol(url: str) -> str:
    """The one protocol that git may speak for this URL.  Raises MvdError for any that we do not know."""
    split = urllib.parse.urlsplit(url)
    if split.scheme in ("https", "http", "ssh") and "://" in url:
        if split.password or (split.username and split.scheme != "ssh"):
            raise MvdError("the URL of the repository must not have a login in it: use the settings made for that")
        if not split.hostname or split.hostname.startswith("-"):
            raise MvdError(f"{url}: names no server")
        return split.scheme
    if url.startswith(("file:///", "/")):
        return "file"
    if SCP.fullmatch(url):
        return "ssh"
    shown = re.sub(r"//[^/@]*@", "//***@", url)
    raise MvdError(f"{shown}: is no address that is known here", "use https://, ssh://, file:/// or a full path")


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
