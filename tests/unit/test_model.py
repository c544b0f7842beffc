"""What no upgrade may change: digests of services, versions of apps, and what is read of stored ones."""

from __future__ import annotations

import json
from dataclasses import replace

from gitops_mvd.core.compose import Mount
from gitops_mvd.core.model import App, Check, File, Service

BIND = Mount(type="bind", source="/srv/a", target="/a", read_only=False)


def stored(app: App) -> App:
    return App.from_json(json.loads(json.dumps(app.to_json())))


def test_a_service_that_may_end_is_stored_as_versions_before_had_it_and_read_as_it_is() -> None:
    app = App("shop", (Service("web", "a", check=Check("not_failed", hold=5.0)),))
    assert app.to_json()["services"][0]["check"]["probe"] == "running"
    assert stored(app) == app
    assert stored(app).services[0].check.probe == "not_failed"


def test_a_service_with_a_restart_policy_is_stored_with_its_own_check() -> None:
    for policy, probe in (("always", "running"), ("on-failure", "not_failed")):
        app = App("shop", (Service("web", "a", run={"restart": policy}, check=Check(probe)),))
        assert stored(app).services[0].check.probe == probe == app.to_json()["services"][0]["check"]["probe"]


def test_whether_a_missing_folder_is_made_changes_neither_digest_nor_version() -> None:
    plain = Service("web", "a", run={"volumes": [BIND]})
    careful = replace(plain, run={"volumes": [{**BIND, "bind": {"create_host_path": False}}]})
    assert careful.digest == plain.digest
    assert App("shop", (careful,)) == App("shop", (plain,))
    assert stored(App("shop", (careful,))).services[0].run == careful.run
    private = replace(plain, run={"volumes": [{**BIND, "bind": {"propagation": "private"}}]})
    assert private.digest != plain.digest
    both = replace(plain, run={"volumes": [{**BIND, "bind": {"propagation": "private", "create_host_path": False}}]})
    assert both.digest == private.digest


def test_options_of_a_mounted_file_are_stored_only_if_there_are_any() -> None:
    plain, labelled = File("/a", {"": "x"}), File("/a", {"": "x"}, options=("Z",))
    assert "options" not in plain.to_json()
    assert stored(App("shop", (Service("web", "a", files=(labelled,)),))).services[0].files == (labelled,)


def test_a_service_that_names_no_network_is_on_the_default_network_of_its_app() -> None:
    alone = App("shop", (Service("web", "a"),))
    [(network, endpoint)] = alone.services[0].endpoints("shop").items()
    assert network == "mvd-shop-default-44136fa3"
    assert endpoint == {"aliases": ["web"]}
    assert alone.all_networks == {network: {}}
    assert stored(alone) == alone


def test_a_service_with_a_network_mode_or_networks_of_its_own_is_not() -> None:
    host = Service("host", "a", run={"network_mode": "host"})
    named = Service("named", "a", run={"networks": {"edge": {"aliases": ["named"]}}})
    assert host.endpoints("shop") == {}
    assert named.endpoints("shop") == {"edge": {"aliases": ["named"]}}
    assert App("shop", (host, named), networks={"edge": {"external": True}}).all_networks == {
        "edge": {"external": True}
    }


def test_notes_are_no_part_of_a_version() -> None:
    assert replace(App("shop"), notes=()) == App("shop")
