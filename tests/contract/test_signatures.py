"""Whose commits are followed: real git, real GPG and real SSH keys, and people who try to get around them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitops_mvd.cli.checks import CHECKS
from gitops_mvd.config.settings import read
from gitops_mvd.config.settings.repository import Verify
from gitops_mvd.core.errors import RevisionRefused, Unavailable
from gitops_mvd.daemon.wiring import wire
from gitops_mvd.git.branch import Source
from gitops_mvd.git.signatures import examining
from tests.lab.forge import Forge, Repository
from tests.lab.repository import ENVIRONMENT, git

for program, package in (("gpg", "gnupg"), ("ssh-keygen", "openssh-client")):
    if not shutil.which(program):
        pytest.skip(f"needs {program}: apt-get install {package}", allow_module_level=True)


@dataclass
class Person:
    """Somebody with a key; `settings` make git sign with it."""

    settings: list[str]
    public: Path  # what to allow: a line of allowed signers, or an exported GPG key
    home: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""


def run(*words: str, environment: dict[str, str] | None = None, said: str | None = None, at: Path | None = None) -> str:
    done = subprocess.run(
        words,
        env=ENVIRONMENT | (environment or {}),
        input=said,
        cwd=at,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def with_ssh_key(folder: Path, name: str, options: str = "") -> Person:
    key = folder / name
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key))
    public = key.with_suffix(".allowed")
    public.write_text(f"{name}@acme.example {options} {key.with_suffix('.pub').read_text().strip()}\n")
    fingerprint = run("ssh-keygen", "-l", "-f", f"{key}.pub").split()[1]
    return Person(["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}.pub"], public, fingerprint=fingerprint)


class Keyring:
    """A GPG home of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"GNUPGHOME": str(folder)}
        folder.mkdir(mode=0o700)

    def gpg(self, *words: str, said: str | None = None) -> str:
        quiet = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")
        return run(*quiet, *words, environment=self.environment, said=said)

    def person(self, name: str, *options: str, expires: str = "never") -> Person:
        self.gpg(*options, "--quick-generate-key", f"{name} <{name}@acme.example>", "ed25519", "sign", expires)
        lines = self.gpg("--with-colons", "--list-keys", f"{name}@acme.example").splitlines()
        fingerprint = next(line.split(":")[9] for line in lines if line.startswith("fpr:"))
        public = self.folder.parent / f"{name}.asc"
        public.write_text(self.gpg("--export", "--armor", fingerprint))
        program = self.folder.parent / f"{name}.sh"
        program.write_text(
            f'#!/bin/sh\nexec gpg --batch --passphrase "" --pinentry-mode loopback {" ".join(options)} "$@"\n'
        )
        program.chmod(0o700)
        settings = ["-c", f"user.signingkey={fingerprint}", "-c", f"gpg.program={program}"]
        return Person(settings, public, self.environment, fingerprint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def keyring() -> Iterator[Keyring]:
    place = Path(run("mktemp", "-d", "/tmp/mvd-test-XXXXXX"))  # short, or the agent's socket has no room
    ring = Keyring(place / "gpg")
    yield ring
    run("gpgconf", "--kill", "all", environment=ring.environment)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def jane(folder: Path) -> Person:
    return with_ssh_key(folder, "jane")


@pytest.fixture(scope="module")
def mallory(folder: Path) -> Person:
    return with_ssh_key(folder, "mallory")


@pytest.fixture(scope="module")
def gerda(keyring: Keyring) -> Person:
    return keyring.person("gerda")


@pytest.fixture(scope="module")
def gustav(keyring: Keyring) -> Person:
    return keyring.person("gustav")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Repository]:
    with Forge(tmp_path / "forge") as forge:
        repository = forge.create("acme/config")
        repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
        yield repository


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mirror"


@pytest.fixture
def source(config: Repository, mirror: Path, jane: Person, gerda: Person) -> Source:
    return Source(str(config.path), "main", mirror, verify=by_ssh_or_gpg("head", jane, gerda), timeout=20)


def by_ssh(mode: str, *people: Person) -> Verify:
    file = people[0].public.with_name(
        f"{'-'.join(person.fingerprint[7:12].replace('/', '_') for person in people)}.signers"
    )
    file.write_text("".join(person.public.read_text() for person in people))
    return Verify(mode, allowed_signers=str(file))


def by_gpg(mode: str, *people: Person) -> Verify:
    return Verify(mode, gpg_keys=tuple(str(person.public) for person in people))


def by_ssh_or_gpg(mode: str, one: Person, other: Person) -> Verify:
    return Verify(mode, str(one.public), (str(other.public),))


def commit(
    config: Repository, signer: Person | None, message: str = "Change", parents: tuple[str, ...] = ("main",)
) -> str:
    """A commit that nothing points at yet."""
    behind = [word for parent in parents for word in ("-p", config.resolve(parent))]
    return run(
        *("git", *(signer.settings if signer else ()), "commit-tree", *(["-S"] if signer else [])),
        *("main^{tree}", *behind),
        environment=signer.home if signer else {},
        said=message,
        at=config.path,
    )


def push(config: Repository, oid: str, ref: str = "refs/heads/main") -> str:
    git("update-ref", ref, oid, at=config.path)
    return oid


def tag(config: Repository, signer: Person | None, name: str, oid: str) -> str:
    settings, environment = (signer.settings, signer.home) if signer else ([], {})
    how = "--sign" if signer else "--annotate"
    run("git", *settings, "tag", "--force", how, "-m", "Release", name, oid, environment=environment, at=config.path)
    return git("rev-parse", f"refs/tags/{name}", at=config.path)


def forge_object(config: Repository, kind: str, text: str) -> str:
    return run("git", "hash-object", "-t", kind, "-w", "--stdin", "--literally", said=text + "\n", at=config.path)


def stamps(mirror: Path) -> dict[Path, int]:
    """Changed where anything was fetched."""
    paths = (path for path in mirror.parent.rglob("*") if path.name != "mirror.lock")
    return {path: path.stat().st_mtime_ns for path in paths}


def following(config: Repository, mirror: Path, verify: Verify) -> Source:
    return Source(str(config.path), "main", mirror, verify=verify, timeout=20)


# ---- the last commit -------------------------------------------------------------------------------------------------


def test_a_commit_by_any_of_those_allowed_is_followed(
    config: Repository, source: Source, jane: Person, gerda: Person
) -> None:
    for signer in (jane, gerda, jane):
        oid = push(config, commit(config, signer))
        assert source.fetch().commit == oid


def test_a_commit_without_a_signature_is_refused_and_the_last_one_kept(
    config: Repository, source: Source, mirror: Path, jane: Person
) -> None:
    good = push(config, commit(config, jane))
    revision = source.fetch()
    bad = push(config, commit(config, None))
    with pytest.raises(RevisionRefused, match=rf"^commit {bad[:7]} is not signed \(") as raised:
        source.fetch()
    assert raised.value.commit == bad
    assert source.last() == revision
    again = following(config, mirror, source.verify or by_ssh("head", jane)).last()
    assert again is not None
    assert again.commit == good
    mended = push(config, commit(config, jane))
    assert source.fetch().commit == mended


def test_nothing_is_followed_before_anything_was_good(config: Repository, source: Source, mirror: Path) -> None:
    for _ in range(2):
        with pytest.raises(RevisionRefused, match="is not signed"):
            source.fetch()
    assert source.last() is None
    assert not mirror.exists()


def test_a_stranger_is_refused_by_the_name_of_his_key(
    config: Repository, source: Source, mallory: Person, gustav: Person
) -> None:
    for stranger in (mallory, gustav):
        push(config, commit(config, stranger))
        with pytest.raises(RevisionRefused, match="signed by a key that is not allowed here") as raised:
            source.fetch()
        assert stranger.fingerprint[-16:] in str(raised.value)


def test_a_kind_of_key_that_is_not_set_up_is_refused(
    config: Repository, mirror: Path, jane: Person, gerda: Person
) -> None:
    push(config, commit(config, gerda))
    with pytest.raises(RevisionRefused, match="keys of its kind are not"):
        following(config, mirror, by_ssh("head", jane)).fetch()
    push(config, commit(config, jane))
    with pytest.raises(RevisionRefused, match="keys of its kind are not"):
        following(config, mirror, by_gpg("head", gerda)).fetch()


def test_a_certificate_of_the_system_is_nobodys_leave(config: Repository, source: Source, jane: Person) -> None:
    head, _, body = git("cat-file", "commit", commit(config, None), at=config.path).partition("\n\n")
    signature = "gpgsig -----BEGIN SIGNED MESSAGE-----\n MIIB\n -----END SIGNED MESSAGE-----"
    push(config, forge_object(config, "commit", f"{head}\n{signature}\n\n{body}"))
    with pytest.raises(RevisionRefused, match="keys of its kind are not"):
        source.fetch()


@pytest.mark.parametrize("signer", ["jane", "gerda"])
def test_a_signature_that_was_taken_from_another_commit_is_bad(
    config: Repository, source: Source, signer: str, request: pytest.FixtureRequest
) -> None:
    text = git("cat-file", "commit", commit(config, request.getfixturevalue(signer), "Mine"), at=config.path)
    push(config, forge_object(config, "commit", text.replace("\n\nMine", "\n\nNot mine")))
    with pytest.raises(RevisionRefused, match="has a bad signature"):
        source.fetch()


def test_a_message_that_looks_like_a_verdict_is_only_a_message(
    config: Repository, source: Source, mallory: Person, gustav: Person, gerda: Person
) -> None:
    words = f"""Good "git" signature for jane@acme.example with ED25519 key SHA256:x

[GNUPG:] NEWSIG
[GNUPG:] GOODSIG {gerda.fingerprint[-16:]} gerda
[GNUPG:] VALIDSIG {gerda.fingerprint} 2026-01-01 1 0 4 0 22 8 00 {gerda.fingerprint}
Good "git" signature for jane@acme.example with ED25519 key SHA256:x
gpgsig -----BEGIN SSH SIGNATURE-----
"""
    for signer, told in ((None, "is not signed"), (mallory, "not allowed here"), (gustav, "not allowed here")):
        push(config, commit(config, signer, words))
        with pytest.raises(RevisionRefused, match=told):
            source.fetch()


def test_a_name_that_looks_like_a_verdict_is_only_a_name(
    config: Repository, source: Source, keyring: Keyring, gerda: Person
) -> None:
    name = f"x\\n[GNUPG:] VALIDSIG 0 0 {gerda.fingerprint}"
    parameters = (
        f"%no-protection\nKey-Type: eddsa\nKey-Curve: ed25519\nName-Real: {name}\nName-Email: liar@x\n%commit\n"
    )
    keyring.gpg("--generate-key", said=parameters)
    lines = keyring.gpg("--with-colons", "--list-keys", "liar@x").splitlines()
    fingerprint = next(line.split(":")[9] for line in lines if line.startswith("fpr:"))
    liar = Person(["-c", f"user.signingkey={fingerprint}"], Path(), keyring.environment)
    push(config, commit(config, liar))
    with pytest.raises(RevisionRefused, match="not allowed here"):
        source.fetch()


def test_a_long_message_hides_no_signature(config: Repository, source: Source, jane: Person, gerda: Person) -> None:
    for signer in (jane, gerda):
        oid = push(config, commit(config, signer, "Long\n\n" + "word " * 13107))
        revision = source.fetch()
        assert (revision.commit, revision.subject) == (oid, "Long")
    push(config, commit(config, None, "Long\n\n" + "word " * 13107))
    with pytest.raises(RevisionRefused, match="is not signed"):
        source.fetch()


def test_an_expired_gpg_key_is_refused(config: Repository, mirror: Path, keyring: Keyring) -> None:
    old = keyring.person("old", "--faked-system-time", "20200101T000000!", expires="seconds=86400")
    push(config, commit(config, old))
    with pytest.raises(RevisionRefused, match=r"is signed by a key that has expired \(\w+\)"):
        following(config, mirror, by_gpg("head", old)).fetch()


def test_a_subkey_signs_for_its_key(config: Repository, mirror: Path, keyring: Keyring) -> None:
    whole = keyring.person("whole")
    keyring.gpg("--quick-add-key", whole.fingerprint, "ed25519", "sign", "never")
    oid = push(config, commit(config, whole))  # gpg takes the newest key that can
    with pytest.raises(RevisionRefused, match="not allowed here"):
        following(config, mirror, by_gpg("head", whole)).fetch()
    whole.public.write_text(keyring.gpg("--export", "--armor", whole.fingerprint))
    assert following(config, mirror, by_gpg("head", whole)).fetch().commit == oid


def test_a_revoked_gpg_key_is_refused(config: Repository, mirror: Path, keyring: Keyring) -> None:
    lost = keyring.person("lost")
    push(config, commit(config, lost))
    following(config, mirror, by_gpg("head", lost)).fetch()
    revocation = (
        (keyring.folder / "openpgp-revocs.d" / f"{lost.fingerprint}.rev").read_text().replace(":-----", "-----")
    )
    keyring.gpg("--import", said=revocation)
    lost.public.write_text(keyring.gpg("--export", "--armor", lost.fingerprint))
    source = following(config, mirror, by_gpg("head", lost))
    with pytest.raises(RevisionRefused, match="is signed by a key that was revoked"):
        source.fetch()
    assert source.last() is None


def test_an_expired_ssh_key_is_refused(config: Repository, mirror: Path, folder: Path) -> None:
    old = with_ssh_key(folder, "old", 'valid-before="20200101"')
    push(config, commit(config, old))
    with pytest.raises(RevisionRefused, match=r"is signed by a key that has expired \(SHA256:"):
        following(config, mirror, by_ssh("head", old)).fetch()


def test_a_key_that_is_for_something_else_is_refused(config: Repository, mirror: Path, folder: Path) -> None:
    other = with_ssh_key(folder, "other", 'namespaces="file"')
    push(config, commit(config, other))
    with pytest.raises(RevisionRefused, match="commit"):
        following(config, mirror, by_ssh("head", other)).fetch()


def test_a_signer_can_not_be_allowed_by_the_repository(
    config: Repository, source: Source, mallory: Person, jane: Person
) -> None:
    push(config, commit(config, jane))
    source.fetch()
    line = mallory.public.read_text()
    files = {
        ".gitconfig": '[gpg "ssh"]\n\tallowedSignersFile = allowed_signers\n',
        "allowed_signers": line,
        Path(source.verify.allowed_signers if source.verify else "").name: line,
    }
    config.commit(files, "Allow me")
    push(config, commit(config, mallory))
    with pytest.raises(RevisionRefused, match="not allowed here"):
        source.fetch()


def test_the_users_own_keys_and_settings_count_for_nothing(
    config: Repository,
    source: Source,
    keyring: Keyring,
    gustav: Person,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text('[gpg]\n\tprogram = true\n[gpg "ssh"]\n\tprogram = true\n')
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GNUPGHOME", str(keyring.folder))
    before = sorted((path, path.stat().st_mtime_ns) for path in keyring.folder.glob("*.kbx"))
    push(config, commit(config, gustav))
    with pytest.raises(RevisionRefused, match="not allowed here"):
        source.fetch()
    assert sorted((path, path.stat().st_mtime_ns) for path in keyring.folder.glob("*.kbx")) == before


def test_no_keyring_and_no_agent_stay_behind(
    config: Repository, source: Source, gerda: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    push(config, commit(config, gerda))
    source.fetch()
    assert list((tmp_path / "tmp").iterdir()) == []
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not [words for words in commands if str(tmp_path).encode() in words and b"gpg" in words]


def test_a_commit_that_was_taken_is_judged_anew_under_other_settings(
    config: Repository, mirror: Path, jane: Person, mallory: Person
) -> None:
    Source(str(config.path), "main", mirror).fetch()
    source = following(config, mirror, by_ssh("head", jane))
    assert source.last() is None
    with pytest.raises(RevisionRefused, match="is not signed"):
        source.fetch()
    push(config, commit(config, mallory))
    following(config, mirror, by_ssh("head", mallory, jane)).fetch()
    with pytest.raises(RevisionRefused, match="not allowed here"):
        following(config, mirror, by_ssh("head", jane)).fetch()
    oid = push(config, commit(config, jane))
    assert source.fetch().commit == oid


def test_a_refused_commit_is_not_fetched_at_every_look(
    config: Repository, source: Source, mirror: Path, jane: Person
) -> None:
    for known in (None, jane):
        if known:
            push(config, commit(config, known))
            source.fetch()
        push(config, commit(config, None))
        with pytest.raises(RevisionRefused):
            source.fetch()
        before = stamps(mirror)
        for _ in range(2):
            source.last()
            with pytest.raises(RevisionRefused, match="is not signed"):
                source.fetch()
        assert stamps(mirror) == before


# ---- what the server lacks -------------------------------------------------------------------------------------------


def test_a_missing_file_or_key_is_told_and_blames_no_commit(
    config: Repository, mirror: Path, tmp_path: Path, jane: Person
) -> None:
    push(config, commit(config, jane))
    (tmp_path / "garbage").write_text("no key")
    for verify, told in (
        (Verify("head", str(tmp_path / "nowhere")), r"cannot read .*nowhere \(verify\): No such file"),
        (Verify("head", "", (str(tmp_path / "nowhere"),)), r"cannot read .*nowhere \(verify\): No such file"),
        (Verify("head", "", (str(tmp_path / "garbage"),)), "garbage has no GPG key in it"),
        (Verify("head", str(tmp_path)), r"cannot read .* \(verify\): Is a directory"),
    ):
        with pytest.raises(Unavailable, match=told) as raised:
            following(config, mirror, verify).fetch()
        assert not isinstance(raised.value, RevisionRefused)


@pytest.mark.parametrize(("missing", "package"), [("gpg", "gnupg"), ("ssh-keygen", "openssh-client")])
def test_a_missing_program_is_told_with_its_package(
    missing: str, package: str, config: Repository, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for program in ("git", "gpg", "ssh-keygen"):
        if program != missing:
            (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(Unavailable, match=rf"{missing} is not installed.*apt-get install {package}"):
        source.fetch()


def test_the_doctor_tells_whether_signatures_can_be_checked(config: Repository, tmp_path: Path, jane: Person) -> None:
    def found(verify: str) -> list[tuple[str, str]]:
        text = f"repository: {config.path}\nstate: {tmp_path}/state\nfiles: {tmp_path}/files\n{verify}\n"
        wired = wire(read("config.yaml", text.encode()), tmp_path / "config.yaml")
        try:
            return [(finding.verdict, finding.message) for finding in CHECKS["verify"](wired)]
        finally:
            wired.close()

    assert found("") == []
    assert found(f"verify: {{mode: every, allowed_signers: {jane.public}}}") == [("ok", f"every, by {jane.public}")]
    with pytest.raises(Unavailable, match=r"cannot read .*none \(verify\): No such file"):
        found(f"verify: {{mode: head, gpg_keys: [{tmp_path}/none]}}")


# ---- every commit ----------------------------------------------------------------------------------------------------


def test_every_commit_since_the_last_one_has_to_be_signed(config: Repository, mirror: Path, jane: Person) -> None:
    push(config, commit(config, jane))  # and the one before is not
    source = following(config, mirror, by_ssh("every", jane))
    source.fetch()
    bad = push(config, commit(config, None))
    tip = push(config, commit(config, jane))
    with pytest.raises(RevisionRefused, match=rf"commit {bad[:7]} is not signed, and comes with {tip[:7]}") as raised:
        source.fetch()
    assert raised.value.commit == tip


@pytest.mark.parametrize("length", [1, 40, 1100])
def test_a_merge_brings_in_no_unsigned_commit_however_far_back_it_lies(
    length: int, config: Repository, mirror: Path, jane: Person
) -> None:
    base = push(config, commit(config, jane))
    source = following(config, mirror, by_ssh("every", jane))
    source.fetch()
    side = commit(config, None, "Sneaked in", (base,))
    if length > 1:  # one signed commit over unsigned ones, far more than what is fetched at first
        lines = [f"commit refs/heads/side\ncommitter x <x@x> {n} +0000\ndata 1\nx" for n in range(length)]
        lines[0] += f"\nfrom {base}"
        run("git", "fast-import", "--quiet", said="\n".join(lines) + "\n", at=config.path)
        side = commit(config, jane, "Signed", ("side",))
    push(config, commit(config, jane, "Merge", (base, side)))
    with pytest.raises(RevisionRefused, match="is not signed, and comes with"):
        source.fetch()
    assert (last := source.last()) is not None
    assert last.commit == base


def test_a_long_signed_branch_is_followed(config: Repository, mirror: Path, jane: Person) -> None:
    base = push(config, commit(config, jane))
    source = following(config, mirror, by_ssh("every", jane))
    source.fetch()
    side = base
    for n in range(40):
        side = commit(config, jane, f"Commit {n}", (side,))
    tip = push(config, commit(config, jane, "Merge", (base, side)))
    assert source.fetch().commit == tip


def test_a_branch_off_an_old_unsigned_commit_is_followed(config: Repository, mirror: Path, jane: Person) -> None:
    old = config.resolve("main")
    for n in range(50):
        push(config, commit(config, None, f"Before we signed {n}"))
    base = push(config, commit(config, jane))
    source = following(config, mirror, by_ssh("every", jane))
    source.fetch()
    side = commit(config, jane, "From long ago", (old,))
    tip = push(config, commit(config, jane, "Merge", (base, side)))
    assert source.fetch().commit == tip


def test_a_rewind_that_is_allowed_brings_in_no_unsigned_commit(config: Repository, mirror: Path, jane: Person) -> None:
    old = config.resolve("main")
    push(config, commit(config, jane))
    source = following(config, mirror, by_ssh("every", jane))
    source.allow_rewind = True
    source.fetch()
    push(config, commit(config, jane, "Signed", (commit(config, None, "Sneaked in", (old,)),)))
    with pytest.raises(RevisionRefused, match="is not signed, and comes with"):
        source.fetch()
    good = push(config, commit(config, jane, "Signed", (old,)))
    assert source.fetch().commit == good


def test_a_server_that_has_cut_its_history_off_is_not_believed(
    config: Repository, mirror: Path, jane: Person, tmp_path: Path
) -> None:
    base = push(config, commit(config, jane))
    source = following(config, mirror, by_ssh("every", jane))
    source.fetch()
    side = commit(config, None, "Sneaked in", (base,))
    over = commit(config, jane, "Signed", (side,))
    push(config, commit(config, jane, "Merge", (base, over)))
    (config.path / "shallow").write_text(f"{over}\n")
    with pytest.raises(RevisionRefused, match="cut off"):
        source.fetch()


# ---- tags ------------------------------------------------------------------------------------------------------------


def test_a_signed_tag_lets_a_commit_through(config: Repository, mirror: Path, jane: Person, gerda: Person) -> None:
    source = following(config, mirror, by_ssh_or_gpg("tag", jane, gerda))
    for signer, name in ((jane, "v1"), (gerda, "v2")):
        oid = push(config, commit(config, None))
        with pytest.raises(RevisionRefused, match=rf"commit {oid[:7]} has no good signed tag \(git tag -s"):
            source.fetch()
        tag(config, signer, name, oid)
        assert source.fetch().commit == oid
        again = following(config, mirror, by_ssh_or_gpg("tag", jane, gerda))
        assert (last := again.last()) is not None
        assert last.commit == oid
        assert again.fetch().commit == oid
    assert len(git("for-each-ref", "refs/mvd/tags", at=mirror).splitlines()) == 1


def test_a_tag_that_does_not_count_says_why(config: Repository, mirror: Path, jane: Person, mallory: Person) -> None:
    source = following(config, mirror, by_ssh("tag", jane))
    old, oid = config.resolve("main"), push(config, commit(config, jane))
    tag(config, jane, "elsewhere", old)
    git("tag", "light", oid, at=config.path)
    with pytest.raises(RevisionRefused, match=r"no good signed tag \("):
        source.fetch()
    tag(config, None, "unsigned", oid)
    with pytest.raises(RevisionRefused, match="tag unsigned is not signed"):
        source.fetch()
    git("tag", "--delete", "unsigned", at=config.path)
    tag(config, mallory, "foreign", oid)
    with pytest.raises(RevisionRefused, match=r"tag foreign is signed by a key that is not allowed here \(SHA256:"):
        source.fetch()
    inner = tag(config, jane, "inner", old)
    push(config, tag(config, jane, "outer", inner), "refs/tags/light")
    with pytest.raises(RevisionRefused, match="tag foreign"):
        source.fetch()
    tag(config, jane, "good", oid)
    assert source.fetch().commit == oid


def test_a_good_tag_of_another_commit_is_found_out_whatever_the_server_says(
    config: Repository, jane: Person, mirror: Path
) -> None:
    old, oid = config.resolve("main"), commit(config, jane)
    good = tag(config, jane, "v1", old)
    source = following(config, mirror, by_ssh("tag", jane))
    with examining(by_ssh("tag", jane), source._git) as examiner:
        assert examiner.tag_fault(config.path, good, old) == ""
        assert examiner.tag_fault(config.path, good, oid) == "points at something else"
        text = git("cat-file", "tag", good, at=config.path)
        moved = forge_object(config, "tag", text.replace(old, oid))
        assert examiner.tag_fault(config.path, moved, oid).startswith("has a bad signature")
        assert examiner.tag_fault(config.path, oid, oid) == "points at something else"


def test_a_tag_that_was_there_is_not_fetched_again(
    config: Repository, mirror: Path, jane: Person, mallory: Person
) -> None:
    tag(config, jane, "v1", config.resolve("main"))
    source = following(config, mirror, by_ssh("tag", jane))
    source.fetch()
    tag(config, mallory, "bad", push(config, commit(config, jane)))
    with pytest.raises(RevisionRefused):
        source.fetch()
    before = stamps(mirror)
    with pytest.raises(RevisionRefused, match="tag bad"):
        source.fetch()
    assert stamps(mirror) == before


# ---- going back ------------------------------------------------------------------------------------------------------


def test_a_branch_that_went_back_to_an_older_signed_commit_is_refused_though_the_mirror_is_lost(
    config: Repository, mirror: Path, jane: Person, tmp_path: Path
) -> None:
    anchor = tmp_path / "files" / "followed"
    old = push(config, commit(config, jane))
    new = push(config, commit(config, jane))

    def begun() -> Source:
        return Source(str(config.path), "main", mirror, verify=by_ssh("head", jane), anchor=anchor, timeout=20)

    assert begun().fetch().commit == new
    shutil.rmtree(mirror.parent)
    push(config, old)
    with pytest.raises(RevisionRefused, match="does not build on it") as raised:
        begun().fetch()
    assert raised.value.commit == old
    push(config, new)
    assert begun().fetch().commit == new


# ---- trailers --------------------------------------------------------------------------------------------------------

APPROVED = "Change\n\nApproved-by: anna\nRollout: all"


def test_only_the_trailers_of_a_commit_that_is_signed_itself_count(
    config: Repository, mirror: Path, jane: Person, mallory: Person
) -> None:
    source = following(config, mirror, by_ssh("head", jane))
    push(config, commit(config, jane))
    source.fetch()
    for signer in (None, mallory, jane):
        push(config, commit(config, signer, APPROVED))
    tip = source.fetch()
    line, _ = source.line(tip, 10)
    counted = [source.trailers(it) for it in line]
    trailers = {"approved-by": "anna", "rollout": "all"}
    assert counted[-3:] == [{}, {}, trailers]
    anybody = Source(str(config.path), "main", mirror)
    assert [anybody.trailers(it) for it in line][-3:] == [trailers] * 3


def test_with_signed_tags_the_trailers_of_a_tagged_commit_count(
    config: Repository, mirror: Path, jane: Person, mallory: Person
) -> None:
    source = following(config, mirror, by_ssh("tag", jane))
    unsigned = push(config, commit(config, None, APPROVED))
    tag(config, mallory, "v0", unsigned)
    tag(config, jane, "v1", unsigned)
    tip = source.fetch()
    assert source.trailers(tip) == {"approved-by": "anna", "rollout": "all"}
    later = push(config, commit(config, None, APPROVED))
    tag(config, jane, "v2", later)
    tip = source.fetch()
    line, is_whole = source.line(tip, 10)
    assert is_whole
    assert [bool(source.trailers(it)) for it in line] == [False, False, True], "what was tagged before is not looked up"
