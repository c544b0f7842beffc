"""`forge` and `webhook`: where commit statuses go, and where a forge tells of a merge.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gitops_mvd import forges
from gitops_mvd.config.readers import absolute, boolean, filled, one_of
from gitops_mvd.config.settings.repository import Credentials
from gitops_mvd.config.settings.section import listening, section
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.forges.api.address import Address


@dataclass(frozen=True, slots=True)
class PullRequestSettings:
    """What is reported on open pull requests."""

    plan: bool = True
    comment: bool = False
    forks: bool = False


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """Where commit statuses go, and what else is reported there; `base_url` "" is the forge's public API."""

    kind: str
    repository: str
    base_url: str = ""
    token_file: str = ""
    username: str = ""
    ca_file: str = ""
    apps: bool = False
    environment: str = ""
    link: str = ""
    every_commit: bool = False
    proposals: PullRequestSettings = field(default_factory=PullRequestSettings)


@dataclass(frozen=True, slots=True)
class Webhook:
    """The address that listens for webhooks of the forge; its kind says how they are authenticated."""

    secret_file: str
    listen: str = "127.0.0.1:9180"


@accepts({"type": "string", "pattern": "^https?://"})
def _link(place: Place) -> str:
    link = filled(place)
    if not link.startswith(("https://", "http://")):
        place.fail("must be an address that begins with https://")
    return link


@accepts({"enum": forges.kinds()})
def _forge_kind(place: Place) -> str:
    return one_of(*forges.kinds())(place)


PULL_REQUESTS_SECTION = section(
    PullRequestSettings,
    {
        "plan": Key("`true` reports the plan of each pull request as the status `mvd/HOST/plan`.", boolean),
        "comment": Key(
            "`true` writes all that would change, as a diff in red and green, into a comment on the pull request, one "
            "for each host, kept up to date.",
            boolean,
        ),
        "forks": Key(
            "`true` does this for pull requests from forks too. Whoever can open one then makes this host read files "
            "and ask registries.",
            boolean,
        ),
    },
)
FORGE_SECTION = section(
    ForgeSettings,
    {
        "kind": Key(
            f"The forge: {', '.join(f'`{kind}`' for kind in forges.kinds())}. "
            "Required if the repository's address does not tell.",
            _forge_kind,
            "as the repository's address tells",
        ),
        "repository": Key(
            "The name of the config repository there: `acme/config`; with all its groups at GitLab, `PROJECT/slug` or "
            "`~user/slug` at Bitbucket Data Center, `organisation/project/repository` at Azure DevOps.",
            filled,
            "as the repository's address tells",
        ),
        "base_url": Key(
            "The API. Required if Git goes by ssh and the web is at another port or path.",
            filled,
            "as the repository's address tells, `https://HOST/api/v3` for GitHub Enterprise Server, for the others "
            "`https://HOST` with the path before the repository",
        ),
        "token_file": Key(
            "The file with a token that may write commit statuses.",
            absolute,
            "the login of `credentials`, which for GitHub may be an App",
        ),
        "username": Key(
            "For Bitbucket: the user of the password or API token. Without a user, the token is an access token.",
            filled,
        ),
        "ca_file": Key(
            "The file with the certificate of the authority that signed the certificate of the API, or that of a proxy "
            "on the way.",
            absolute,
            "`ca_file` of `credentials`",
        ),
        "apps": Key(
            "`true` gives every app a status of its own too, `mvd/HOST/APP`, at the last commit that changed the app.",
            boolean,
        ),
        "environment": Key(
            "GitHub only: what runs on this host is shown as a deployment to that environment. `{host}` and the name "
            'of each label of the host are filled in: `"{host}"` is an environment for each host, '
            '`"production {region}"` one for all hosts of a region.',
            filled,
        ),
        "link": Key(
            "The page that a status or a notification links to, with `{host}`, `{app}` and `{commit}` filled in: "
            "`https://wiki.example.com/runbook?host={host}&app={app}&commit={commit}`.",
            _link,
            "the page of the deploy if `web.url` is set, or that of the commit if the forge requires a link; else none",
        ),
        "every_commit": Key(
            "`true` posts a status to commits that change nothing on this host, too. For a branch protection that "
            "requires `mvd/HOST`; each server then posts to each commit.",
            boolean,
        ),
        "proposals": Key("What is reported on open pull requests.", PULL_REQUESTS_SECTION),
    },
    derived=("kind", "repository"),
)
WEBHOOK_SECTION = section(
    Webhook,
    {
        "secret_file": Key(
            "The file with the secret that the forge signs with, 16 characters or more: `openssl rand -hex 32`.",
            absolute,
        ),
        "listen": Key(
            'The address and port to listen at, plain HTTP; IPv6 as `"[::1]:9180"`. The daemon may not use a port '
            "below 1024.",
            listening,
        ),
    },
)


def complete(forge: dict[str, Any], values: Mapping[str, Any], place: Place) -> ForgeSettings | None:
    """The forge's settings with what follows from the repository's address and credentials."""
    url = values["repository"]
    told = forges.locate(url, forge.get("kind", ""))
    if not told.kind:
        address = Address.of(url)
        where = address.host if address else "the repository's address"  # and no login that may be in it
        likely = forges.likely(url) or "gitea"
        others = ", ".join(kind for kind in forges.kinds() if kind != likely)
        place.report(f"needs a `kind`, which {where} does not tell: write `forge: {{kind: {likely}}}`, or {others}")
    elif "repository" not in forge and not told.repository:
        place.report(
            "needs a `repository`, which the repository's address does not tell: its name there, such as `acme/config`"
        )
    elif forge.get("environment") and told.kind != "github":
        place.report("has an `environment`, which only GitHub has")
    else:
        credentials = values.get("credentials", Credentials())
        if credentials.github_app and told.kind != "github" and "token_file" not in forge:
            place.report("has no `token_file`, and the login of a GitHub App is only for GitHub")
        known = {"kind": told.kind, "repository": told.repository, "base_url": told.base_url}
        login = {"token_file": credentials.token_file, "ca_file": credentials.ca_file}
        return ForgeSettings(**{**known, **login, **forge})
    return None
