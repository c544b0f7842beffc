"""Whether a commit or a tag carries the signature of somebody whom this server allows.

Git checks, with ssh-keygen or gpg, against what the settings name: nothing of the repository, of the user or of the
mirror has a say in it.  GPG gets a keyring of its own for each examination, which is thrown away afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd.config.settings.repository import Verify
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.ports import Git

GPG_SECONDS = 30.0
GIT_KNOWS_SSH = (2, 34)

SSH, PGP = "-----BEGIN SSH SIGNATURE-----", "-----BEGIN PGP "
NOWHERE = "/nonexistent"  # the program for a kind of signature that nobody here is allowed to make

# What gpg and ssh-keygen say of a signature that is not good; the first that is found counts.
FAULTS = {
    r"^\[GNUPG:\] BADSIG |incorrect signature": "has a bad signature, made for something else",
    r"^\[GNUPG:\] REVKEYSIG ": "is signed by a key that was revoked",
    r"^\[GNUPG:\] EXPKEYSIG |: key has expired: ": "is signed by a key that has expired",
    r"^\[GNUPG:\] EXPSIG ": "has a signature that has expired",
    r"^\[GNUPG:\] (NO_PUBKEY|GOODSIG) |^No principal matched": "is signed by a key that is not allowed here",
}
SIGNERS = r"^\[GNUPG:\] (?:NO_PUBKEY|VALIDSIG|BADSIG|EXPKEYSIG|REVKEYSIG) (\w+)|key (SHA256:[\w+/=]+)"


@dataclass(frozen=True)
class Examiner:
    """Finds fault with what is in a repository; made by `examining`."""

    git: Git
    settings: Mapping[str, str]
    keyring: str
    keys: Collection[str]  # the fingerprints of the GPG keys that are allowed
    ssh: bool

    def fault(self, repository: Path, kind: str, oid: str) -> str:
        """Why the signature of a `commit` or `tag` does not do, such as "is not signed"; "" where it is good."""
        status, text, _ = self.git(f"--git-dir={repository}", "cat-file", kind, oid)
        if status:
            return "cannot be read"
        form = _form(kind, text)
        if not form:
            return "is not signed"
        if not (form == SSH and self.ssh) and not (form == PGP and self.keys):
            return "is signed by a key that is not allowed here: keys of its kind are not"
        status, _, said = self.git(
            f"--git-dir={repository}",
            *(f"verify-{kind}", "--raw", oid),
            settings=self.settings,
            environment={"GNUPGHOME": self.keyring},
        )
        if status == 0 and (self._is_by_ssh(said) if form == SSH else self._is_by_gpg(said)):
            return ""
        told = next((told for sign, told in FAULTS.items() if re.search(sign, said, re.MULTILINE)), "")
        signer = re.search(SIGNERS, said, re.MULTILINE)
        return f"{told or 'has a bad signature'}{f' ({signer[1] or signer[2]})' if signer else ''}"

    def tag_fault(self, repository: Path, tag: str, commit: str) -> str:
        """Why a tag does not let this very commit through; "" where it does."""
        _, text, _ = self.git(f"--git-dir={repository}", "cat-file", "tag", tag)
        if not text.startswith(f"object {commit}\ntype commit\n"):
            return "points at something else"
        return self.fault(repository, "tag", tag)

    def _is_by_ssh(self, said: str) -> bool:
        """Is it by one of the allowed signers?  Git says "signature with" of anybody else."""
        return bool(re.search('^Good "git" signature for ', said, re.MULTILINE))

    def _is_by_gpg(self, said: str) -> bool:
        """Is it by one of our keys, whatever else the gpg.conf of the machine may bring in?"""
        made = re.findall(r"^\[GNUPG:\] VALIDSIG .* (\w+)$", said, re.MULTILINE)
        return len(made) == 1 and made[0] in self.keys and bool(re.search(r"^\[GNUPG:\] GOODSIG ", said, re.MULTILINE))


@contextlib.contextmanager
def examining(verify: Verify, git: Git) -> Iterator[Examiner]:
    """An examiner, inside.  Raises Unavailable where this server lacks a program or a file for it."""
    ssh = bool(verify.allowed_signers)
    if ssh:
        _need("ssh-keygen", "openssh-client")
        _readable(verify.allowed_signers)
        version = re.search(r"(\d+)\.(\d+)", git("version")[1])
        if version and (int(version[1]), int(version[2])) < GIT_KNOWS_SSH:
            raise Unavailable(f"git {version[0]} knows no SSH signatures", "they need git 2.34, or use gpg_keys")
    if verify.gpg_keys:
        _need("gpg", "gnupg")
    settings = {
        "gpg.ssh.program": "ssh-keygen" if ssh else NOWHERE,
        "gpg.ssh.allowedSignersFile": verify.allowed_signers,
        "gpg.ssh.revocationFile": "",
        "gpg.program": "gpg" if verify.gpg_keys else NOWHERE,
        "gpg.openpgp.program": "gpg" if verify.gpg_keys else NOWHERE,
        "gpg.x509.program": NOWHERE,
    }
    try:
        throwaway = tempfile.TemporaryDirectory(prefix="mvd-keys-")
    except OSError as error:
        raise Unavailable(f"there is no place for a keyring: {error.strerror}", "make room in /tmp") from error
    with throwaway as keyring:
        keys = {key for path in verify.gpg_keys for key in _take_in(path, keyring)}
        yield Examiner(git, settings, keyring, keys, ssh)


def _form(kind: str, text: str) -> str:
    """What kind of signature a commit or tag has: SSH, PGP, something else, or "" for none."""
    head, _, body = text.partition("\n\n")
    if kind == "commit":  # a line that goes on begins with a space, so nobody else's words are taken for a header
        found = re.search(r"^gpgsig (.*)", head, re.MULTILINE)
        signature = found[1] if found else ""
    else:
        signature = next((line for line in reversed(body.split("\n")) if line.startswith("-----BEGIN ")), "")
    return next((form for form in (SSH, PGP) if signature.startswith(form)), signature)


def _take_in(path: str, keyring: str) -> list[str]:
    """Put the keys in a file into the keyring; returns their fingerprints."""
    _readable(path)
    words = ("--batch", "--no-tty", "--no-options", "--no-autostart", "--status-fd=1", "--import", "--", path)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": NOWHERE, "GNUPGHOME": keyring, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["gpg", *words], env=environment, capture_output=True, text=True, errors="replace", timeout=GPG_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"cannot run gpg: no answer in {GPG_SECONDS:.0f} s") from error
    except OSError as error:
        raise Unavailable(f"cannot run gpg: {error.strerror}") from error
    keys = re.findall(r"^\[GNUPG:\] IMPORT_OK \d+ (\w+)$", done.stdout, re.MULTILINE)
    if not keys:
        raise Unavailable(f"{path} has no GPG key in it", "gpg --export --armor KEY writes one")
    return keys


def _need(program: str, package: str) -> None:
    if not shutil.which(program):
        raise Unavailable(
            f"{program} is not installed, which signatures are checked with", f"apt-get install {package}"
        )


def _readable(path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise Unavailable(f"cannot read {path} (verify): {error.strerror}") from error
