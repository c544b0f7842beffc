"""The manual's page on the settings has every key, with the sentence and the default that the code has for it.

`ACCEPT=1 pytest tests/unit/test_docs_settings.py` rewrites the tables of the page; its prose is written by hand.
"""

from typing import Any

import pytest

from gitops_mvd.config import settings
from gitops_mvd.config.settings import Section
from tests.unit.reference_page import DOCS, has_rows, rows

PAGE = DOCS / "settings.md"
SECTIONS: dict[str, Section[Any]] = {
    "The settings of a server": settings.SETTINGS_SECTION,
    "`credentials`: the login at the repository": settings.CREDENTIALS_SECTION,
    "`github_app`: the login of an App": settings.GITHUB_APP_SECTION,
    "`verify`: whose signature a commit needs": settings.VERIFY_SECTION,
    "`docker`: the engine": settings.DOCKER_SECTION,
    "`registries`: the login at a registry": settings.LOGIN_SECTION,
    "`kong`: the Kong of this server": settings.KONG_SECTION,
    "`sops`: keys for encrypted files": settings.SOPS_SECTION,
    "`providers`: where else secrets come from": settings.PROVIDER_SECTION,
    "`command`: a program that prints secrets": settings.COMMAND_SECTION,
    "`vault`: a Vault or an OpenBao": settings.VAULT_SECTION,
    "`approle`: the login of a machine at Vault": settings.APPROLE_SECTION,
    "`policy`: what the repository may not do with this server": settings.POLICY_SECTION,
    "`forge`: where commit statuses go": settings.FORGE_SECTION,
    "`proposals`: what a pull request would do": settings.PULL_REQUESTS_SECTION,
    "`webhook`: hear of a merge at once": settings.WEBHOOK_SECTION,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_is_in_the_manual_with_its_default(heading: str) -> None:
    section = SECTIONS[heading]
    assert has_rows(PAGE, heading, rows(section.keys, section.required))


def test_every_section_of_the_settings_is_in_the_manual() -> None:
    sections = {name: value for name, value in vars(settings).items() if isinstance(value, Section)}
    assert [name for name, section in sections.items() if section not in SECTIONS.values()] == []


def test_a_setting_without_its_field_is_an_error_at_import() -> None:
    with pytest.raises(TypeError, match="Login and its keys do not match: username"):
        settings.section(settings.Login, {"password_file": settings.LOGIN_SECTION.keys["password_file"]})
