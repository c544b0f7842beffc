"""What `fleet.yaml` has as `logging` for the services of its hosts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, HostFacts
from gitops_mvd.core.policy import Policy, Server, enforce
from gitops_mvd.manifest import load, read_fleet
from tests.unit.memory_tree import MemoryTree

GELF = {"driver": "gelf", "options": {"gelf-address": "udp://10.1.0.30:12201"}}


def app_of(fleet: Any, logging: Any = None, host: str = "web1") -> App:
    """The app of one service with that `logging`, as a host with that fleet reads it."""
    service = {"image": "nginx:1.29", **({"logging": logging} if logging else {})}
    files = {"apps/shop/compose.yaml": yaml.safe_dump({"services": {"web": service}})}
    if fleet is not None:
        files["fleet.yaml"] = yaml.safe_dump(fleet)
    tree = MemoryTree(files)
    [app], broken = load(tree, read_fleet(tree).host(host) if fleet else HostFacts(host))
    assert not broken
    return app


def logged(fleet: Any, logging: Any = None, host: str = "web1") -> Any:
    return app_of(fleet, logging, host).services[0].run.get("logging")


def test_a_service_without_logging_has_that_of_all_hosts_and_a_host_may_have_another_one() -> None:
    fleet = {
        "defaults": {"logging": GELF},
        "hosts": {"web1": None, "obs1": {"logging": {"driver": "journald"}}, "old1": {"logging": {"driver": "local"}}},
    }
    assert logged(fleet) == GELF
    assert logged(fleet, host="obs1") is None
    assert logged(fleet, host="old1") == {"driver": "local", "options": {}}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"driver": "local"}, {"driver": "local", "options": {}}),
        ({"driver": "journald"}, {"driver": "journald", "options": {}}),
        ({"driver": "gelf", "options": {"tag": "x"}}, {**GELF, "options": {**GELF["options"], "tag": "x"}}),  # type: ignore[dict-item]
        ({"options": {"tag": "x"}}, {**GELF, "options": {**GELF["options"], "tag": "x"}}),  # type: ignore[dict-item]
        ({"options": {"max-size": "1m"}}, GELF),
    ],
)
def test_what_a_service_says_is_over_it_as_compose_merges_files(own: Any, expected: Any) -> None:
    assert logged({"defaults": {"logging": GELF}, "hosts": {"web1": None}}, own) == expected


def test_options_for_the_journal_are_of_all_services_that_go_there() -> None:
    fleet = {
        "defaults": {"logging": {"driver": "journald", "options": {"mode": "non-blocking"}}},
        "hosts": {"web1": None},
    }
    assert logged(fleet) == {"driver": "", "options": {"mode": "non-blocking"}}
    assert logged(fleet, {"options": {"max-size": "1m"}})["options"] == {"mode": "non-blocking"}


def test_a_change_of_the_default_makes_other_containers_and_no_default_makes_none() -> None:
    none, journal, gelf = (
        app_of(None).services[0].digest,
        app_of({"defaults": {"logging": {"driver": "journald"}}, "hosts": {"web1": None}}).services[0].digest,
        app_of({"defaults": {"logging": GELF}, "hosts": {"web1": None}}).services[0].digest,
    )
    assert none == journal == "c2677a96dc8a13785a99d391924dc075ec7630b4c565b93e255425bfdeeba535"
    assert gelf != none


def test_hosts_with_another_default_do_not_share_a_reading() -> None:
    fleet = {"hosts": {"web1": {"logging": GELF}, "web2": None}}
    assert [logged(fleet, host=host) for host in ("web1", "web2", "web1")] == [GELF, None, GELF]


def test_the_policy_of_the_host_outranks_the_default() -> None:
    loopback = {"driver": "gelf", "options": {"gelf-address": "udp://127.0.0.1:12201"}}
    with pytest.raises(StepFailed, match="logging: gelf-address"):
        enforce(Policy(level="baseline"), app_of({"hosts": {"web1": {"logging": loopback}}}), Server())


@pytest.mark.parametrize("own", [None, {"options": {"max-size": "10m"}}, {"driver": "journald"}, {"driver": "local"}])
def test_the_journal_without_options_as_the_default_makes_no_container_anew(own: Any) -> None:
    journal = {"defaults": {"logging": {"driver": "journald"}}, "hosts": {"web1": None}}
    assert app_of(journal, own).services[0].digest == app_of({"hosts": {"web1": None}}, own).services[0].digest
