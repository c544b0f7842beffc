"""The reference page has every key that a manifest can have, with the sentence that the code has for it.

`ACCEPT=1 pytest tests/unit/test_docs_manifest.py` rewrites the tables of the page; its prose is written by hand.
"""

import pytest

from gitops_mvd.config.tables import Ignored, Key, Table, Unsupported
from gitops_mvd.manifest import (
    canary,
    compose,
    composition,
    deploy,
    extensions,
    fleet,
    health,
    kong_entities,
    kong_fields,
    lists,
    logs,
    network,
    storage,
    waves,
)
from gitops_mvd.probes import kafka
from tests.unit.reference_page import DOCS, has_rows, rows

MODULES = (
    canary,
    compose,
    composition,
    deploy,
    extensions,
    fleet,
    health,
    kong_entities,
    kong_fields,
    lists,
    network,
    storage,
)

TABLES: dict[str, Table] = {
    "fleet.yaml": fleet.FLEET,
    "fleet.yaml: a host": fleet.HOST_KEYS,
    "fleet.yaml: an app": fleet.APP_KEYS,
    "fleet.yaml: a list": lists.LIST,
    "fleet.yaml: rollout": waves.ROLLOUT_KEYS,
    "fleet.yaml: rollout: prometheus": waves.PROMETHEUS_KEYS,
    "fleet.yaml: rollout: http": waves.HTTP_KEYS,
    "fleet.yaml: rollout: windows": waves.WINDOWS_KEYS,
    "fleet.yaml: rollout: silent": waves.SILENT_KEYS,
    "compose.yaml": composition.TOP,
    "include": composition.INCLUDE,
    "networks": network.NETWORK,
    "volumes": storage.VOLUME,
    "configs": storage.CONFIG,
    "secrets": storage.SECRET,
    "services": compose.SERVICE,
    "services: extends": composition.EXTENDS,
    "services: env_file": compose.ENV_FILE,
    "services: ports": network.PORT_KEYS,
    "services: volumes": storage.MOUNT,
    "services: volumes: bind": storage.BIND,
    "services: volumes: volume": storage.VOLUME_OPTIONS,
    "services: volumes: tmpfs": storage.TMPFS_OPTIONS,
    "services: configs, secrets": storage.GRANT,
    "services: networks": network.ATTACHMENT,
    "services: depends_on": compose.DEPENDENCY,
    "services: healthcheck": compose.HEALTHCHECK,
    "services: logging": logs.LOGGING,
    "services: blkio_config": compose.BLKIO,
    "services: deploy": deploy.DEPLOY,
    "services: deploy: update_config": deploy.UPDATE,
    "services: deploy: placement": deploy.PLACEMENT,
    "services: deploy: restart_policy": deploy.RESTART_POLICY,
    "services: deploy: resources": deploy.RESOURCES,
    "services: deploy: resources: limits": deploy.LIMITS,
    "services: deploy: resources: reservations": deploy.RESERVATIONS,
    "services: gpus, devices of reservations": deploy.DEVICE,
    "x-mvd": extensions.X_MVD,
    "x-mvd: canary": canary.CANARY,
    "x-mvd: canary: judge": canary.JUDGE,
    "x-mvd of an app": extensions.OF_APP,
    "x-mvd of an app: suspend": extensions.SUSPEND,
    "x-mvd: health": health.HEALTH_KEYS,
    "x-mvd: health: kafka": kafka.CONSUMER,
    "x-mvd: health: kafka: sasl": kafka.SASL,
    "x-kong": extensions.X_KONG,
    "x-kong: routes": kong_fields.KONG_ROUTE,
    "x-kong: plugins": kong_fields.KONG_PLUGIN,
    "x-kong: service": kong_fields.KONG_SERVICE,
    "x-kong: upstream": kong_fields.KONG_UPSTREAM,
    "kong/*.yaml": kong_entities.GATEWAY,
    "kong/*.yaml: consumers": kong_entities.CONSUMER,
    "kong/*.yaml: plugins": kong_entities.GATEWAY_PLUGIN,
    "kong/*.yaml: services": kong_entities.GATEWAY_SERVICE,
    "kong/*.yaml: routes": kong_entities.GATEWAY_ROUTE,
    "kong/*.yaml: upstreams": kong_entities.GATEWAY_UPSTREAM,
    "kong/*.yaml: upstreams: targets": kong_entities.KONG_TARGET,
    "kong/*.yaml: key_sets": kong_entities.KEY_SET,
    "kong/*.yaml: keys": kong_entities.KEY,
    "kong/*.yaml: certificates": kong_entities.CERTIFICATE,
    "kong/*.yaml: certificates: snis": kong_entities.SNI,
    "kong/*.yaml: ca_certificates": kong_entities.CA_CERTIFICATE,
    "kong/*.yaml: vaults": kong_entities.VAULT,
}


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_in_the_reference(name: str) -> None:
    assert has_rows(DOCS / "manifest.md", name, rows(TABLES[name]))


def test_every_table_of_keys_is_in_the_reference() -> None:
    tables = {
        id(table): f"{module.__name__}.{name}"
        for module in (
            compose,
            composition,
            deploy,
            extensions,
            fleet,
            health,
            kong_entities,
            kong_fields,
            network,
            storage,
            waves,
        )
        for name, table in vars(module).items()
        if isinstance(table, dict)
        and table
        and all(isinstance(key, Key | Ignored | Unsupported) for key in table.values())
    }
    listed = {id(table) for table in TABLES.values()} | {id(compose.RUN), id(kong_entities.CONSUMER_CREDENTIALS)}
    assert [name for table, name in tables.items() if table not in listed and "._" not in name] == []
