"""The fields of Kong that a manifest may have are those that Kong has, as the stand-in of the lab knows them."""

from importlib.resources import files

import pytest
import yaml

from gitops_mvd.config.tables import Table
from gitops_mvd.manifest import gateway, kong

SCHEMA = yaml.safe_load(files("tests.lab.kong_standin").joinpath("entities.yaml").read_text("utf-8"))
SET_BY_KONG = {"created_at", "updated_at", "cert_digest"}
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
    *gateway.CREDENTIALS,
}


@pytest.mark.parametrize(
    ("entity", "table"),
    [
        ("routes", kong.ROUTE),
        ("plugins", kong.PLUGIN),
        ("plugins", gateway.GATEWAY_PLUGIN),
        ("services", kong.SERVICE),
        ("services", gateway.GATEWAY_SERVICE),
        ("upstreams", kong.UPSTREAM),
        ("consumers", gateway.CONSUMER),
        ("certificates", gateway.CERTIFICATE),
        ("ca_certificates", gateway.CA_CERTIFICATE),
        ("vaults", gateway.VAULT),
        ("routes", gateway.GATEWAY_ROUTE),
        ("upstreams", gateway.GATEWAY_UPSTREAM),
        ("targets", gateway.TARGET),
        ("key_sets", gateway.KEY_SET),
        ("keys", gateway.KEY),
        ("snis", gateway.SNI),
    ],
)
def test_every_field_of_kong_is_honoured_or_refused(entity: str, table: Table) -> None:
    assert table.keys() - NOT_A_FIELD - BEYOND == SCHEMA[entity]["fields"].keys() - SET_BY_KONG


def test_every_kind_of_entity_can_stand_at_the_top_level() -> None:
    assert {kind for kind in SCHEMA if kind != "_shared"} <= gateway.GATEWAY.keys()


def test_every_protocol_of_kong_and_no_other_is_honoured() -> None:
    assert set(kong.PROTOCOLS) == set(SCHEMA["_shared"]["protocol"]["one_of"])
