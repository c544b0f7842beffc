from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest

from gitops_mvd.config.settings import addresses_of_receivers, named_files, read
from gitops_mvd.config.settings.engine import Login
from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.config.settings.repository import GitHubApp, Verify
from gitops_mvd.config.settings.section import host_and_port
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.notice import USUAL, Quiet
from gitops_mvd.core.policy import Policy


def test_what_is_not_said_has_its_default() -> None:
    settings = read("config.yaml", b"repository: https://github.com/acme/config.git\n")
    assert (settings.branch, settings.interval, settings.kong, settings.forge) == ("main", 60.0, None, None)


def test_the_forge_knows_its_repository_and_token_from_the_address() -> None:
    text = b"""
repository: git@github.com:acme/config.git
credentials: {token_file: /etc/gitops-mvd/token}
docker: {registries: {myrepo.io: {username: ci, password_file: /etc/gitops-mvd/registry}}}
forge: {kind: github}
"""
    settings = read("config.yaml", text)
    assert settings.forge
    assert (settings.forge.repository, settings.forge.token_file) == ("acme/config", "/etc/gitops-mvd/token")
    assert settings.docker.registries == {"myrepo.io": Login("ci", "/etc/gitops-mvd/registry")}
    assert named_files(settings) == {"/etc/gitops-mvd/token", "/etc/gitops-mvd/registry"}


def test_a_github_app_is_a_login_for_the_repository_and_for_its_forge() -> None:
    for written, id in (("4711", "4711"), ("Iv23liAbCd", "Iv23liAbCd")):
        text = f"""
repository: https://github.com/acme/config.git
credentials: {{github_app: {{id: {written}, key_file: /etc/gitops-mvd/app.pem}}}}
forge: {{kind: github}}
"""
        settings = read("config.yaml", text.encode())
        assert settings.credentials.github_app == GitHubApp(id, "/etc/gitops-mvd/app.pem")
        assert settings.forge
        assert settings.forge.token_file == ""
        assert named_files(settings) == {"/etc/gitops-mvd/app.pem"}


@pytest.mark.parametrize(
    ("credentials", "line", "key"),
    [
        ("{token_file: /t, github_app: {id: 1, key_file: /k}}", 2, "credentials.github_app"),
        ("{github_app: {id: 1}}", 2, "credentials.github_app"),
        ("{github_app: {id: 1, key_file: k.pem}}", 2, "credentials.github_app.key_file"),
        ("{github_app: {id: 1, key_file: /k, installation: 2}}", 2, "credentials.github_app.installation"),
    ],
)
def test_a_github_app_is_read_strictly(credentials: str, line: int, key: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: https://github.com/acme/config\ncredentials: {credentials}\n".encode())
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [(line, key)]


def test_every_mistake_is_told_with_its_line() -> None:
    text = b"""
branhc: main
interval: 10
kong: {admin: 8001}
forge: {kind: sourceforge}
docker: {registries: {myrepo.io: {username: ci}}}
"""
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", text)
    told = [(problem.line, problem.key) for problem in caught.value.problems]
    assert told == [
        (2, ""),
        (2, "branhc"),
        (3, "interval"),
        (4, "kong.admin"),
        (5, "forge.kind"),
        (6, "docker.registries.myrepo.io"),
    ]
    assert "did you mean `branch`?" in str(caught.value.problems[1])


def test_a_well_known_forge_needs_no_word() -> None:
    settings = read("config.yaml", b"repository: https://gitlab.com/acme/platform/config\nforge: {}\n")
    assert settings.forge
    assert (settings.forge.kind, settings.forge.repository, settings.forge.base_url) == (
        "gitlab",
        "acme/platform/config",
        "https://gitlab.com",
    )


@pytest.mark.parametrize(
    ("repository", "told"),
    [
        (
            "https://me:geheim@gitlab.acme.example/a/b",
            "gitlab.acme.example does not tell: write `forge: {kind: gitlab}`",
        ),
        ("git@bitbucket.acme.example:a/b.git", "write `forge: {kind: bitbucket-dc}`, or azure-devops"),
        ("/srv/config.git", "which the repository's address does not tell: write `forge: {kind: gitea}`"),
    ],
)
def test_a_forge_of_ones_own_is_told_what_to_write(repository: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: {repository}\nforge: {{}}\n".encode())
    assert told in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_whose_signatures_are_good_is_said_by_files_of_the_server() -> None:
    text = b"""
repository: /srv/config.git
verify: {mode: every, allowed_signers: /etc/gitops-mvd/signers, gpg_keys: [/etc/gitops-mvd/web-flow.gpg]}
"""
    settings = read("config.yaml", text)
    assert settings.verify == Verify("every", "/etc/gitops-mvd/signers", ("/etc/gitops-mvd/web-flow.gpg",))
    assert named_files(settings) == {"/etc/gitops-mvd/signers", "/etc/gitops-mvd/web-flow.gpg"}


def test_kong_is_reached_over_tls_with_files_that_are_watched() -> None:
    text = b"""
repository: /srv/config.git
kong:
  admin: https://kong.internal:8444/admin
  ca_file: /etc/gitops-mvd/kong-ca.pem
  cert_file: /etc/gitops-mvd/kong.pem
  key_file: /etc/gitops-mvd/kong.key
  token_file: /etc/gitops-mvd/kong-token
  token_header: Authorization
  boot_file: /etc/kong/kong.yaml
"""
    settings = read("config.yaml", text)
    assert settings.kong
    assert (settings.kong.token_header, settings.kong.boot_file) == ("Authorization", "/etc/kong/kong.yaml")
    assert named_files(settings) == {
        *(f"/etc/gitops-mvd/{name}" for name in ("kong-ca.pem", "kong.pem", "kong.key", "kong-token"))
    }


@pytest.mark.parametrize(
    ("kong", "key", "sentence"),
    [
        ("{admin: 127.0.0.1:8001}", "admin", "begins with http:// or https:// or unix:///path"),
        ("{admin: ftp://kong}", "admin", "begins with http:// or https:// or unix:///path"),
        ("{admin: 'http://'}", "admin", "begins with http://"),
        ("{admin: 'unix://'}", "admin", "unix:///path"),
        ("{admin: 'unix://run/kong.sock'}", "admin", "three slashes"),
        ("{admin: 'http://kong:99999'}", "admin", "is not an address"),
        ("{admin: 'http://[::1'}", "admin", "is not an address"),
        ("{admin: 'https://me:secret@kong'}", "admin", "contains a login"),
        ("{admin: 'https://kong/?token=1'}", "admin", "no query"),
        ("{proxy: 'unix:///run/kong.sock'}", "proxy", "begins with http:// or https://"),
        ("{admin: 'https://kong', cert_file: /c}", "cert_file", "needs `key_file`"),
        ("{admin: 'https://kong', key_file: /k}", "key_file", "needs `cert_file`"),
        ("{cert_file: /c, key_file: /k}", "cert_file", "begins with https://"),
        ("{admin: 'http://10.0.0.9:8001', token_file: /t}", "token_file", "sent over plain http"),
        ("{token_file: /t, token_header: 'two words'}", "token_header", "name of a header"),
        ("{token_header: apikey}", "token_header", "needs `token_file`"),
        ("{boot_file: kong.yaml}", "boot_file", "absolute path"),
        ("{boot_file: /etc/kong/kong.conf}", "boot_file", "Kong reads no other file"),
    ],
)
def test_how_kong_is_reached_is_read_strictly(kong: str, key: str, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence) as caught:
        read("config.yaml", f"repository: /srv/config.git\nkong: {kong}\n".encode())
    assert [problem.key for problem in caught.value.problems] == [f"kong.{key}"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "kong",
    [
        "{admin: 'http://10.0.0.9:8001', token_file: /t, insecure: true}",
        "{admin: 'http://localhost:8001', token_file: /t}",
        "{admin: 'http://[::1]:8001', token_file: /t}",
        "{admin: 'unix:///run/kong/admin.sock', token_file: /t}",
        "{admin: 'https://10.0.0.9:8444', token_file: /t}",
    ],
)
def test_a_token_for_kong_goes_where_nobody_can_read_it(kong: str) -> None:
    assert read("config.yaml", f"repository: /srv/config.git\nkong: {kong}\n".encode()).kong


def test_half_a_login_is_told() -> None:
    with pytest.raises(ManifestError, match="has no `password_file`"):
        read("config.yaml", b"repository: /srv/config\ndocker: {registries: {myrepo.io: {username: ci}}}\n")


WEBHOOK = """
repository: https://github.com/acme/config
forge: {kind: github}
webhook: {secret_file: /etc/gitops-mvd/webhook%s}
"""


@pytest.mark.parametrize(
    ("said", "listen", "at"),
    [
        ("", "127.0.0.1:9180", ("127.0.0.1", 9180)),
        (', listen: "0.0.0.0:65535"', "0.0.0.0:65535", ("0.0.0.0", 65535)),
        (', listen: "[::1]:9180"', "[::1]:9180", ("::1", 9180)),
    ],
)
def test_webhooks_are_heard_at_an_address_and_port(said: str, listen: str, at: tuple[str, int]) -> None:
    settings = read("config.yaml", (WEBHOOK % said).encode())
    assert settings.webhook
    assert settings.webhook.listen == listen
    assert host_and_port(listen) == at
    assert named_files(settings) == {"/etc/gitops-mvd/webhook"}


@pytest.mark.parametrize(
    "listen",
    [
        *("9180", ":9180", "localhost:9180", "127.0.0.1", "[::1]", "::1:9180", "[127.0.0.1]:9180", "[]:9180"),
        *(f"127.0.0.1:{port}" for port in ("", "0", "65536", "-1", "0x1f", "\N{ARABIC-INDIC DIGIT NINE}", "9" * 5000)),
    ],
)
def test_what_is_no_address_with_a_port_is_told(listen: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", (WEBHOOK % f', listen: "{listen}"').encode())
    assert [problem.key for problem in caught.value.problems] == ["webhook.listen"]


def test_webhooks_need_a_secret_and_a_forge_that_sends_them() -> None:
    with pytest.raises(ManifestError, match="has no `secret_file`"):
        read("config.yaml", b"repository: /srv/config\nforge: {kind: github, repository: a/b}\nwebhook: {}\n")
    with pytest.raises(ManifestError, match="needs `forge`"):
        read("config.yaml", b"repository: /srv/config\nwebhook: {secret_file: /etc/gitops-mvd/webhook}\n")


@pytest.mark.parametrize(
    ("verify", "told"),
    [
        ("{mode: head}", "neither"),
        ("{mode: head, gpg_keys: []}", "neither"),
        ("{allowed_signers: /a}", "has no `mode`"),
        ("{mode: heads, allowed_signers: /a}", "must be one of head, tag, every"),
        ("{mode: head, allowed_signers: signers}", "must be an absolute path"),
        ("{mode: head, gpg_keys: [/a, b]}", "must be an absolute path"),
        ("{mode: head, allowed_signers: /a, keys: [/b]}", "unknown key"),
        ("head", "must be a mapping"),
    ],
)
def test_verify_is_read_strictly(verify: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        read("config.yaml", f"repository: /srv/config.git\nverify: {verify}\n".encode())


@pytest.mark.parametrize(
    ("forge", "complaint"),
    [
        (
            "forge: {}",
            "needs a `kind`, which git.acme.example does not tell: write `forge: {kind: gitea}`, or azure-devops, "
            "bitbucket-cloud, bitbucket-dc, forgejo, github, gitlab",
        ),
        ("forge: {kind: gitea, environment: live}", "which only GitHub has"),
        ("forge: {kind: gitea, link: javascript:alert(1)}", "begins with https://"),
        ("forge: {kind: gitea, proposals: {fork: true}}", "did you mean `forks`?"),
    ],
)
def test_a_forge_that_cannot_be_is_told(forge: str, complaint: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: https://git.acme.example/acme/config\n{forge}\n".encode())
    assert complaint in str(caught.value)


def test_a_shared_kong_is_one_of_several_servers() -> None:
    settings = read("config.yaml", b"repository: /srv/config\nkong: {shared: edge, address: 10.0.0.5}\n")
    assert settings.kong
    assert (settings.kong.shared, settings.kong.address) == ("edge", "10.0.0.5")


@pytest.mark.parametrize(
    ("kong", "key", "sentence"),
    [
        ("{shared: edge}", "kong.shared", "needs an `address` of this server that a shared Kong reaches"),
        ("{shared: edge, address: 127.0.0.9}", "kong.address", r"which 127\.0\.0\.9 is not"),
        ("{shared: edge, address: localhost}", "kong.address", "which localhost is not"),
        ('{shared: edge, address: "::1"}', "kong.address", "which ::1 is not"),
        ("{shared: edge, address: 0.0.0.0}", "kong.address", r"which 0\.0\.0\.0 is not"),
        ('{shared: "a,b", address: 10.0.0.5}', "kong.shared", "must be a name"),
        ("{shared: edge, address: 10.0.0.5, boot_file: /a.yaml}", "kong.boot_file", "a shared one needs a database"),
    ],
)
def test_a_shared_kong_has_to_reach_this_server(kong: str, key: str, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence) as caught:
        read("config.yaml", f"repository: /srv/config\nkong: {kong}\n".encode())
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [(2, key)]


def test_a_policy_is_a_level_or_has_keys_of_its_own() -> None:
    def policy(text: str) -> Policy | None:
        return read("config.yaml", f"repository: /srv/git\npolicy: {text}\n".encode()).policy

    assert policy("restricted") == policy("{level: restricted}") == Policy(level="restricted")
    assert policy("{}") == policy("baseline") == Policy(level="baseline")
    assert policy("{level: privileged, mounts: [/srv]}") == Policy(level="privileged", mounts=("/srv",))


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("", "policy: is empty: write a level such as `baseline`, or leave it out"),
        ("strict", "policy: must be one of privileged, baseline, restricted, not 'strict'"),
        ("{level: strict}", "policy.level: must be one of privileged"),
        ("[baseline]", "policy: must be a mapping, not a list"),
        ("{subnets: [10.0.0.1/8]}", "policy.subnets[0]: must be a network"),
    ],
)
def test_a_policy_is_read_strictly(policy: str, told: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(told)):
        read("config.yaml", f"repository: /srv/git\npolicy: {policy}\n".encode())


@pytest.mark.parametrize(
    ("providers", "key", "sentence"),
    [
        ("{v: {}}", "v", "must have one of `command`, `vault`"),
        (
            "{v: {vault: {address: 'https://v', token_file: /t}, command: {run: [/p, '{path}']}}}",
            "v",
            "must have one of",
        ),
        ("{V: {command: {run: [/p, '{path}']}}}", "V", "is not a name of a provider"),
        ("{sops: {command: {run: [/p, '{path}']}}}", "sops", "is not a name of a provider"),
        ("{v: {command: {run: [p, '{path}']}}}", "v.command.run", "the absolute path of a program"),
        ("{v: {command: {run: [/p, db]}}}", "v.command.run", "must have `{path}`"),
        ("{v: {command: {run: []}}}", "v.command.run", "the absolute path of a program"),
        ("{v: {vault: {token_file: /t}}}", "v.vault", "has no `address`"),
        ("{v: {vault: {address: 'https://v'}}}", "v.vault", "must have one of `token_file`, `approle`"),
        (
            "{v: {vault: {address: 'https://v', token_file: /t, approle: {role_id_file: /r, secret_id_file: /s}}}}",
            *("v.vault", "must have one of `token_file`, `approle`"),
        ),
        ("{v: {vault: {address: 'http://10.0.0.9:8200', token_file: /t}}}", "v.vault.address", "over plain http"),
    ],
)
def test_half_a_provider_of_secrets_is_told(providers: str, key: str, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: /srv/config.git\nproviders: {providers}\n".encode())
    [problem] = caught.value.problems
    assert problem.key == f"providers.{key}"
    assert sentence in problem.message


def test_providers_of_secrets_have_names() -> None:
    text = b"""
repository: /srv/config.git
providers:
  vault: {vault: {address: "http://127.0.0.1:8200", approle: {role_id_file: /r, secret_id_file: /s}}}
  pass: {command: {run: [/usr/bin/pass, show, "{path}"], interval: 1h}}
"""
    settings = read("config.yaml", text)
    assert settings.providers["vault"].vault
    assert settings.providers["vault"].vault.approle
    command = settings.providers["pass"].command
    assert command
    assert (command.run, command.interval) == (("/usr/bin/pass", "show", "{path}"), 3600.0)


# ---- who is notified -------------------------------------------------------------------------------------------------


def test_receivers_of_notifications_have_a_name_and_are_told_failures_and_recoveries() -> None:
    text = b"""
repository: /srv/config
notify:
  - {url_file: /etc/gitops-mvd/slack-url, apps: [chatbot, "billing-*"], quiet: "22:00-07:00 Europe/London"}
  - {url: "ntfy://ntfy.example.com/deploys", on: [deployed]}
"""
    settings = read("config.yaml", text)
    quiet = Quiet(22 * 60, 7 * 60, ZoneInfo("Europe/London"))
    slack = NotifySettings("slack-url", "", "/etc/gitops-mvd/slack-url", ("chatbot", "billing-*"), USUAL, quiet)
    ntfy = NotifySettings("ntfy", "ntfy://ntfy.example.com/deploys", on=("deployed",))
    assert settings.notify == (slack, ntfy)
    assert addresses_of_receivers(settings) == {"/etc/gitops-mvd/slack-url"}
    assert named_files(settings) == set(), "a file with an address that is missing keeps no daemon from its start"


@pytest.mark.parametrize(
    ("receivers", "key", "sentence"),
    [
        ("{url: 'ntfy://a/b'}", "notify", "must be a list, not a mapping"),
        ("[{}]", "notify[0]", "must have one of `url`, `url_file`"),
        ("[{url: 'ntfy://a/b', url_file: /a}]", "notify[0]", "must have one of `url`, `url_file`"),
        ("[{url_file: a}]", "notify[0].url_file", "must be an absolute path without `..`, not 'a'"),
        ("[{url: slack}]", "notify[0].url", "must be an address of apprise, such as `ntfy://ntfy.example.com/deploys`"),
        (
            "[{url: 'mailto://me:hunter22@example.com'}]",
            "notify[0].url",
            "contains a password: put the address into a file, and name that file in `url_file`",
        ),
        (
            "[{url: 'ntfy://a/b'}, {url: 'ntfy://a/c'}]",
            "notify[1]",
            "is called 'ntfy' as another one is: give it a `name`",
        ),
        (
            "[{url_file: /a, on: []}]",
            "notify[0].on",
            "is empty: name at least one, or leave it out for the default",
        ),
        (
            "[{url_file: /a, on: [broken]}]",
            "notify[0].on[0]",
            "must be one of deployed, recovered, suspended, waiting, degraded, failed, not 'broken'",
        ),
        (
            "[{url_file: /a, quiet: night}]",
            "notify[0].quiet",
            "must be hours and a time zone, such as `22:00-07:00 Europe/London`, not 'night'",
        ),
        ("[{url_file: /a, quiet: '22:00-24:00'}]", "notify[0].quiet", "has an hour that no clock shows: '22:00-24:00'"),
        (
            "[{url_file: /a, quiet: '22:00-22:00'}]",
            "notify[0].quiet",
            "begins when it ends: to be notified of nothing, leave the receiver out",
        ),
        (
            "[{url_file: /a, quiet: '22:00-07:00 ../../etc/passwd'}]",
            "notify[0].quiet",
            "has an unknown time zone, '../../etc/passwd': `timedatectl list-timezones` lists those of this server",
        ),
    ],
)
def test_a_receiver_of_notifications_is_read_strictly(receivers: str, key: str, sentence: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read("config.yaml", f"repository: /srv/config\nnotify: {receivers}\n".encode())
    assert [(problem.line, problem.key, problem.message) for problem in caught.value.problems] == [(2, key, sentence)]


def test_receivers_are_bounded() -> None:
    many = "".join(f"- {{name: r{n}, url_file: /a}}\n" for n in range(21))
    with pytest.raises(ManifestError, match="has 21 receivers, and 20 is the most"):
        read("config.yaml", f"repository: /srv/config\nnotify:\n{many}".encode())
