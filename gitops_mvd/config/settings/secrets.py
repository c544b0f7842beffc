"""`sops` and `providers`: where secrets come from beside the folder of this server.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from gitops_mvd.config.readers import absolute, duration, filled, mapping_of, tuple_of
from gitops_mvd.config.settings.section import address, interval, is_this_machine, section
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.core.secrets import misnamed


@dataclass(frozen=True, slots=True)
class SopsSettings:
    """The keys of this host for files of the repository that are encrypted with SOPS."""

    age_key_file: str = "/etc/gitops-mvd/sops/age/keys.txt"
    gnupg_home: str = "/etc/gitops-mvd/sops/gnupg"


@dataclass(frozen=True, slots=True)
class CommandProvider:
    """A program that prints a secret; `{path}` in its words is the path of that."""

    run: tuple[str, ...]
    interval: float = 300.0
    within: float = 10.0


@dataclass(frozen=True, slots=True)
class AppRole:
    """The login of a machine at Vault."""

    role_id_file: str
    secret_id_file: str
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class VaultProvider:
    """A Vault or OpenBao: one of `token_file` and `approle` is the login there."""

    address: str
    token_file: str = ""
    approle: AppRole | None = None
    namespace: str = ""
    ca_file: str = ""
    interval: float = 300.0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Who is asked for secrets: exactly one of these."""

    command: CommandProvider | None = None
    vault: VaultProvider | None = None


SOPS_SECTION = section(
    SopsSettings,
    {
        "age_key_file": Key("The file with the identities of age, as `age-keygen` writes it.", absolute),
        "gnupg_home": Key("The home of GnuPG with the secret keys of PGP, which have no passphrase.", absolute),
    },
)


@accepts({"type": "array", "items": {"type": "string"}, "minItems": 1})
def _words(place: Place) -> tuple[str, ...]:
    words = tuple_of(filled)(place)
    if not words or not words[0].startswith("/"):
        place.fail("must begin with the absolute path of a program")
    if not any("{path}" in word for word in words[1:]):
        place.fail("must have `{path}` in a word behind the program, for the path of the secret that is asked for")
    return words


COMMAND_SECTION = section(
    CommandProvider,
    {
        "run": Key(
            'The program and its words, without a shell: `[/usr/local/bin/op, read, "op://servers/{path}"]`. What it '
            "prints is the secret; of one that is missing it prints nothing. It gets `PATH` and `HOME` alone.",
            _words,
        ),
        "interval": Key("How often to ask again.", interval),
        "within": Key("How long it may take.", duration),
    },
)
APPROLE_SECTION = section(
    AppRole,
    {
        "role_id_file": Key("The file with the role id.", absolute),
        "secret_id_file": Key("The file with the secret id.", absolute),
        "mount": Key("Where the auth method is mounted.", filled),
    },
)
VAULT_SECTION = section(
    VaultProvider,
    {
        "address": Key("Vault or OpenBao: `https://HOST:PORT`.", address("https", "http")),
        "token_file": Key("The file with a token, for example the one that a Vault agent renews.", absolute),
        "approle": Key("An AppRole instead of a token.", APPROLE_SECTION),
        "namespace": Key("The namespace.", filled, "the root namespace"),
        "ca_file": Key(
            "The file with the certificate of the authority that signed its certificate.",
            absolute,
            "the authorities that this server trusts",
        ),
        "interval": Key("How often to ask again.", interval),
    },
)
PROVIDER_SECTION = section(
    ProviderSettings,
    {
        "command": Key("A program that prints secrets.", COMMAND_SECTION),
        "vault": Key("Key-value version 2 of a Vault or an OpenBao.", VAULT_SECTION),
    },
)


@accepts({"type": "object", "additionalProperties": PROVIDER_SECTION.schema})
def read_providers(place: Place) -> dict[str, ProviderSettings]:
    for name, at in place.entries().items():
        if why := misnamed(f"{name}:x"):
            at.report(f"is not a name of a provider: a-z, 0-9 and `-`, and not `sops` ({why})")
        given = [key for key in PROVIDER_SECTION.keys if at.has(key)]
        if len(given) != 1:
            at.report("must have one of `command`, `vault`")
        elif given == ["vault"]:
            _one_login(at.entries()["vault"])
    return mapping_of(PROVIDER_SECTION)(place)


def _one_login(vault: Place) -> None:
    if vault.has("token_file") == vault.has("approle"):
        vault.report("must have one of `token_file`, `approle`")
    if vault.has("address"):
        address = vault.entries()["address"]
        url = urlsplit(str(address.node.value))
        if url.scheme == "http" and not is_this_machine(url.hostname or ""):
            address.report("sends the login over plain http to another machine: use https")
