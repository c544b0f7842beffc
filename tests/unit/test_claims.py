"""What services claim of a host, as the manifest has it and as an engine shows it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, cast

import pytest

from gitops_mvd.core.claims import Claim, of_app, of_service, passing
from gitops_mvd.core.model import App, Check, Service
from gitops_mvd.docker.claims import claims
from gitops_mvd.docker.types import ListedContainer
from tests.fakes import service


def port(published: str, host_ip: str = "", protocol: str = "tcp") -> dict[str, Any]:
    return {"target": 80, "published": published, "host_ip": host_ip, "protocol": protocol}


def mount(source: str, type: str = "bind", *, read_only: bool = False) -> dict[str, Any]:
    return {"type": type, "source": source, "target": "/data", "read_only": read_only}


def claimed(**run: Any) -> set[str]:
    return {str(claim) for claim in of_service("shop", Service("web", "v1", run=cast(Any, run)))}


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"ports": [port("8080")]}, {"port 8080"}),
        ({"ports": [port("53", "127.0.0.1", "udp")]}, {"port 53/udp at 127.0.0.1"}),
        ({"ports": [port(""), port("8000-8010")]}, set()),  # any free one
        ({"volumes": [mount("shop_data", "volume")]}, {"volume shop_data"}),
        ({"volumes": [mount("shop_data", "volume", read_only=True), mount("", "volume"), mount("", "tmpfs")]}, set()),
        ({"volumes": [mount("/srv/photos/")]}, {"folder /srv/photos"}),
        ({"volumes": [mount("./data")]}, {"folder shop/data"}),
        ({"networks": {"lan": {"ipv4_address": "10.1.0.5"}}}, {"address 10.1.0.5 on lan"}),
        ({"networks": {"lan": {"mac_address": "02:42:AC:11:00:02"}}}, {"MAC address 02:42:ac:11:00:02"}),
        ({"devices": ["/dev/ttyUSB0:/dev/tty:rwm"]}, {"device /dev/ttyUSB0"}),
        ({"network_mode": "host", "expose": ["9000"]}, set()),  # maybe it does not listen there
        (
            {"gpus": [{"driver": "", "device_ids": ["0", "2"], "capabilities": ["gpu"], "options": {}}]},
            {"GPU 0", "GPU 2"},
        ),
    ],
)
def test_a_service_claims_what_no_other_one_can_have_beside_it(run: dict[str, Any], expected: set[str]) -> None:
    assert claimed(**run) == expected


def test_on_the_network_of_the_host_a_service_claims_the_port_that_it_is_asked_at() -> None:
    one = Service("web", "v1", run={"network_mode": "host"}, check=Check("http", {"port": 7799}))
    assert {str(claim) for claim in of_service("shop", one)} == {"port 7799"}


def test_a_route_is_claimed_by_all_that_it_matches() -> None:
    assert {str(claim) for claim in of_app(App("shop", (service("web"),))).all} == {"route /web"}


@pytest.mark.parametrize(
    ("one", "other", "do_meet"),
    [
        (Claim("port", "80/tcp"), Claim("port", "80/tcp", "10.0.0.1"), True),
        (Claim("port", "80/tcp", "10.0.0.2"), Claim("port", "80/tcp", "10.0.0.1"), False),
        (Claim("port", "80/tcp"), Claim("port", "80/udp"), False),
        (Claim("folder", "/srv"), Claim("folder", "/srv/photos"), True),
        (Claim("folder", "/srv/photos2"), Claim("folder", "/srv/photos"), False),
        (Claim("volume", "a"), Claim("folder", "a"), False),
    ],
)
def test_claims_meet_if_only_one_can_have_both(one: Claim, other: Claim, do_meet: bool) -> None:
    assert one.meets(other) is other.meets(one) is do_meet
    assert passing([one], [other]) == ([other] if do_meet else [])


LISTED = {
    "Id": "1" * 64,
    "Names": ["/mvd-shop-web-12345678"],
    "Labels": {},
    "State": "running",
    "Status": "Up",
    "Created": 1,
    "HostConfig": {"NetworkMode": "lan"},
    "NetworkSettings": {"Networks": {"lan": {"IPAMConfig": {"IPv4Address": "10.1.0.5"}, "EndpointID": ""}}},
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        {"PrivatePort": 81, "Type": "tcp"},
    ],
    "Mounts": [
        {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/x", "Destination": "/data", "RW": True},
        {"Type": "volume", "Name": "other", "Source": "/var/lib/docker/y", "Destination": "/other", "RW": False},
        {"Type": "bind", "Source": "/srv/mvd/shop/data", "Destination": "/own", "RW": True},
        {"Type": "bind", "Source": "/srv/photos", "Destination": "/photos", "RW": True},
        {"Type": "bind", "Source": "/etc/gitops-mvd/files/x", "Destination": "/etc/x", "RW": False},
    ],
}


def test_an_engine_shows_what_a_container_has_in_the_words_of_the_manifest() -> None:
    seen = claims(cast(ListedContainer, LISTED), PurePath("/srv/mvd"))
    run = {
        "ports": [port("8080"), port("53", "127.0.0.1", "udp")],
        "volumes": [mount("shop_data", "volume"), mount("./data"), mount("/srv/photos")],
        "networks": {"lan": {"ipv4_address": "10.1.0.5"}},
    }
    assert seen == of_service("shop", Service("web", "v1", run=cast(Any, run)))


def test_a_container_that_does_not_run_publishes_nothing() -> None:
    ended = {**LISTED, "State": "exited", "Ports": [], "Mounts": []}
    assert {str(claim) for claim in claims(cast(ListedContainer, ended), PurePath("/srv/mvd"))} == {
        "address 10.1.0.5 on lan"
    }
