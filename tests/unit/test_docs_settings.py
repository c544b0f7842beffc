"""The manual's page on the settings has every key, with the sentence and the default that the code has for it.

`ACCEPT=1 pytest tests/unit/test_docs_settings.py` rewrites the tables of the page; its prose is written by hand.
"""

from typing import Any

import pytest

from gitops_mvd.config import settings
from gitops_mvd.config.settings import engine, forge, kong, log, metrics, notify, policy, repository, secrets, web
from gitops_mvd.config.settings.section import Section, section
from gitops_mvd.core.features import modules
from tests.unit.reference_page import DOCS, has_rows, rows

PAGE = DOCS / "settings.md"
SECTIONS: dict[str, Section[Any]] = {
    "The settings of a server": settings.SETTINGS_SECTION,
    "`credentials`: the login at the repository": repository.CREDENTIALS_SECTION,
    "`github_app`: the login of an App": repository.GITHUB_APP_SECTION,
    "`verify`: whose signature a commit needs": repository.VERIFY_SECTION,
    "`docker`: the engine": engine.DOCKER_SECTION,
    "`registries`: the login at a registry": engine.LOGIN_SECTION,
    "`kong`: the Kong of this server": kong.KONG_SECTION,
    "`sops`: keys for encrypted files": secrets.SOPS_SECTION,
    "`providers`: where else secrets come from": secrets.PROVIDER_SECTION,
    "`command`: a program that prints secrets": secrets.COMMAND_SECTION,
    "`vault`: a Vault or an OpenBao": secrets.VAULT_SECTION,
    "`approle`: the login of a machine at Vault": secrets.APPROLE_SECTION,
    "`notify`: who is notified": notify.NOTIFY_SECTION,
    "`policy`: what the repository may not do with this server": policy.POLICY_SECTION,
    "`log`: the daemon's own log": log.LOG_SECTION,
    "`forge`: where commit statuses go": forge.FORGE_SECTION,
    "`proposals`: what a pull request would do": forge.PULL_REQUESTS_SECTION,
    "`metrics`: a port for Prometheus": metrics.METRICS_SECTION,
    "`traces`: each deploy as a trace": metrics.TRACES_SECTION,
    "`webhook`: hear of a merge at once": forge.WEBHOOK_SECTION,
    "`web`: the page": web.WEB_SECTION,
    "`proxy`: a login in front of the page": web.PROXY_SECTION,
    "`hosts`: several servers in one page": web.HOST_SECTION,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_is_in_the_manual_with_its_default(heading: str) -> None:
    wanted = SECTIONS[heading]
    assert has_rows(PAGE, heading, rows(wanted.keys, wanted.required))


def test_every_section_of_the_settings_is_in_the_manual() -> None:
    parts = [settings, *modules(settings.__name__, settings.__path__).values()]
    found = [value for part in parts for value in vars(part).values() if isinstance(value, Section)]
    assert [it for it in found if it not in SECTIONS.values()] == []
    assert set(map(id, SECTIONS.values())) == set(map(id, found))


def test_a_setting_without_its_field_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="Login and its keys do not match: username"):
        section(engine.Login, {"password_file": engine.LOGIN_SECTION.keys["password_file"]})
