"""The fields of Kong that a manifest may have are those that Kong has, as the stand-in of the lab knows them."""

from importlib.resources import files

import pytest
import yaml

from gitops_mvd.config.tables import Table
from gitops_mvd.manifest import kong_entities, kong_fields

SCHEMA = yaml.safe_load(files("tests.lab.kong_standin").joinpath("entities.yaml").read_text("utf-8"))
SET_BY_KONG = {"created_at", "updated_at", "cert_digest"}
BY_THE_WAY = {"_comment", "_ignore"}  # in any entity of a file
BEYOND = {  # what only another edition or router of Kong has
    "ordering",
    "consumer_group",
    "expression",
    "priority",
    "sticky_sessions_cookie",
    "sticky_sessions_cookie_path",
    "mtls_auth_credentials",
}
NOT_A_FIELD = {  # nested, short for others, or decK's
    "plugins",
    "routes",
    "targets",
    "keys",
    "url",
    "groups",
    *kong_entities.CONSUMER_CREDENTIALS,
}


@pytest.mark.parametrize(
    ("entity", "table"),
    [
        ("routes", kong_fields.KONG_ROUTE),
        ("plugins", kong_fields.KONG_PLUGIN),
        ("plugins", kong_entities.GATEWAY_PLUGIN),
        ("services", kong_fields.KONG_SERVICE),
        ("services", kong_entities.GATEWAY_SERVICE),
        ("upstreams", kong_fields.KONG_UPSTREAM),
        ("consumers", kong_entities.CONSUMER),
        ("certificates", kong_entities.CERTIFICATE),
        ("ca_certificates", kong_entities.CA_CERTIFICATE),
        ("vaults", kong_entities.VAULT),
        ("routes", kong_entities.GATEWAY_ROUTE),
        ("upstreams", kong_entities.GATEWAY_UPSTREAM),
        ("targets", kong_entities.KONG_TARGET),
        ("key_sets", kong_entities.KEY_SET),
        ("keys", kong_entities.KEY),
        ("snis", kong_entities.SNI),
    ],
)
def test_every_field_of_kong_is_supported_or_refused(entity: str, table: Table) -> None:
    assert (
        table.keys() - NOT_A_FIELD - BEYOND - BY_THE_WAY - SET_BY_KONG == SCHEMA[entity]["fields"].keys() - SET_BY_KONG
    )


def test_every_kind_of_entity_can_stand_at_the_top_level() -> None:
    assert {kind for kind in SCHEMA if kind != "_shared"} <= kong_entities.GATEWAY.keys()


def test_every_protocol_of_kong_and_no_other_is_supported() -> None:
    assert set(kong_fields.KONG_PROTOCOLS) == set(SCHEMA["_shared"]["protocol"]["one_of"])
