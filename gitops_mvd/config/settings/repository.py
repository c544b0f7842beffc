"""`credentials` and `verify`: the login at the repository, and whose signature a commit needs.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gitops_mvd.config.readers import absolute, boolean, filled, one_of, own_word, tuple_of
from gitops_mvd.config.settings.section import section
from gitops_mvd.config.tables import Key, Place, accepts


@dataclass(frozen=True, slots=True)
class GitHubApp:
    """The login of a GitHub App: `id` is its number or its client id."""

    id: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The login at the repository: a token or a GitHub App over https, or a deploy key over ssh."""

    username: str = "x-access-token"
    token_file: str = ""
    github_app: GitHubApp | None = None
    ssh_key: str = ""
    known_hosts: str = ""
    ca_file: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Whose signature a revision needs.  `mode` is `head`, `tag` or `every`; the files lie on this server."""

    mode: str
    allowed_signers: str = ""
    gpg_keys: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        return (*filter(None, [self.allowed_signers]), *self.gpg_keys)


GITHUB_APP_SECTION = section(
    GitHubApp,
    {
        "id": Key("The number of the App, or its client id.", own_word),
        "key_file": Key("The file with a private key of the App: the `.pem` that GitHub gives, unencrypted.", absolute),
    },
)
CREDENTIALS_SECTION = section(
    Credentials,
    {
        "username": Key("The user name that goes with the token. The default is GitHub's.", filled),
        "token_file": Key("The file with the token, for a repository over https.", absolute),
        "github_app": Key(
            "A GitHub App instead of a token, for the repository over https and for `forge`.", GITHUB_APP_SECTION
        ),
        "ssh_key": Key("The file with the private key, for a repository over ssh.", absolute),
        "known_hosts": Key("The known_hosts file with the host keys of the forge. Required for ssh.", absolute),
        "ca_file": Key(
            "The file with the certificate of the authority that signed the repository's certificate, or that of a "
            "proxy on the way.",
            absolute,
            "the authorities that this server trusts",
        ),
        "insecure": Key("`true` sends the token over plain http too. For a forge on a private network only.", boolean),
    },
)
VERIFY_SECTION = section(
    Verify,
    {
        "mode": Key(
            "`head`: the last commit of the branch must be signed. `tag`: a signed, annotated tag must point at it; "
            "a release is let through by its tag. `every`: every commit since the last one that was followed must be "
            "signed, also those that a merge brought in; the first time, only the last commit.",
            one_of("head", "tag", "every"),
        ),
        "allowed_signers": Key(
            "The file with the SSH keys whose signatures are accepted, in the format of `ssh-keygen` (ALLOWED "
            "SIGNERS): `jane@acme.com ssh-ed25519 AAAA...`, one a line.",
            absolute,
        ),
        "gpg_keys": Key(
            "The files with the public GPG keys whose signatures are accepted, as `gpg --export --armor` writes them.",
            tuple_of(absolute),
        ),
    },
)


@accepts(CREDENTIALS_SECTION.schema)
def read_credentials(place: Place) -> Credentials:
    found = CREDENTIALS_SECTION(place)
    if found.github_app and found.token_file:
        place.entries()["github_app"].fail("takes the place of `token_file`: give one of them")
    return found


@accepts(VERIFY_SECTION.schema)
def read_verify(place: Place) -> Verify:
    entries = place.entries()
    has_gpg_keys = place.has("gpg_keys") and entries["gpg_keys"].node.value != []
    if not place.has("allowed_signers") and not has_gpg_keys:
        place.report("has neither `allowed_signers` nor `gpg_keys`: one of them must say whose signatures are good")
    return VERIFY_SECTION(place)
