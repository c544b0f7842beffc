"""How long what people reach is away for each kind of change, beside what the plan promised."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.lab import service
from tests.lab.bench.figure import Figure
from tests.lab.engine import Say
from tests.lab.lab import Lab
from tests.lab.outage import asked, failures, longest_outage
from tests.lab.stage import NotTrue, Stage

PORT = 18200
PROMISED = "promised at most"
DAEMON = "gitops-mvd.service"

Compose = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of change: the apps before and after it, by name, and where they are asked."""

    what: str
    before: Mapping[str, Compose]
    after: Mapping[str, Compose]
    url: str
    is_free: bool = False  # of any outage


def kinds(one: str, two: str, ip: str) -> Iterator[Kind]:
    """Images `one` and `two` are two versions of a service; `ip` is the server's."""
    kong, host = f"http://{ip}:8000", f"http://{ip}"
    routed, fixed = _routed, _fixed
    yield Kind("route, new image", {"a": routed(one)}, {"a": routed(two)}, f"{kong}/a", True)
    yield Kind("route, 3 replicas, new image", {"a": routed(one, 3)}, {"a": routed(two, 3)}, f"{kong}/a", True)
    yield Kind("route, app renamed", {"a": routed(one)}, {"b": routed(one)}, f"{kong}/a", True)
    port = f"{host}:{PORT}/"
    yield Kind("fixed port, new image", {"a": fixed(one)}, {"a": fixed(two)}, port)
    yield Kind("fixed port, service renamed", {"a": fixed(one)}, {"a": fixed(one, name="other")}, port)
    yield Kind("fixed port, app renamed", {"a": fixed(one)}, {"b": fixed(one)}, port)
    both = {"a": fixed(one), "b": fixed(one, port=PORT + 1)}
    yield Kind("fixed ports, two apps swap", both, {"a": both["b"], "b": both["a"]}, port)
    yield Kind("own subnet, network changed", {"a": _on_lan(one)}, {"a": _on_lan(one, "1400")}, port)


def _health() -> dict[str, Any]:
    return {"x-mvd": {"health": {"http": "/health", "port": service.PORT, "within": "30s"}}, "stop_grace_period": "2s"}


def _routed(image: str, replicas: int = 1) -> Compose:
    kong = {"port": service.PORT, "routes": [{"paths": ["/a"]}]}
    return {"services": {"web": {"image": image, **_health(), "x-kong": kong, "deploy": {"replicas": replicas}}}}


def _fixed(image: str, name: str = "web", port: int = PORT, **more: Any) -> dict[str, Any]:
    return {"services": {name: {"image": image, **_health(), "ports": [f"{port}:{service.PORT}"], **more}}}


def _on_lan(image: str, mtu: str = "1500") -> Compose:
    lan = {"ipam": {"config": [{"subnet": "10.78.0.0/24"}]}, "driver_opts": {"com.docker.network.driver.mtu": mtu}}
    return {**_fixed(image, networks=["lan"]), "networks": {"lan": lan}}


def figures(say: Say) -> Iterator[Figure]:
    """Raises LabUnavailable where there can be no lab, NotTrue where a change is not deployed."""
    with Lab.open(say) as lab:
        stage = Stage.set_up(lab, lab.server("bench"), lab.forge.create("acme/config"))
        one, two = (lab.registry.push("web", version, service.web("web", version)) for version in ("1", "2"))
        beside = {"services": {"web": {"image": one, **_health()}}}  # what no change concerns
        stage.ends(stage.merge({**_files({"beside": beside})}, "Begin"), "success")
        for kind in kinds(one, two, stage.server.ip):
            yield from _measured(stage, kind)


def _measured(stage: Stage, kind: Kind) -> Iterator[Figure]:
    stage.ends(stage.merge(_files(kind.before), f"{kind.what}: before"), "success")
    stage.server.exec("systemctl", "stop", DAEMON)
    try:
        gone = kind.before.keys() - kind.after.keys()
        stage.merge({**_files(kind.after), **_gone(gone)}, f"{kind.what}: after")
        plan = json.loads(stage.server.exec("mvd", "plan", "--json", check=False).out)
        most = max(float(change["cost"]["seconds_down_at_most"]) for change in plan["changes"].values())
        with asked(kind.url) as seen:
            synced = stage.server.exec("mvd", "sync", check=False, timeout=120)
        if synced.code:
            raise NotTrue(f"{kind.what}: {synced.out}{synced.err}")
    finally:
        stage.server.exec("systemctl", "start", DAEMON)
    stage.ends(stage.merge(_gone(kind.after.keys()), f"{kind.what}: gone"), "success")
    told = f"outage: {kind.what} ({failures(seen)} of {len(seen)} requests lost)"
    yield Figure(told, longest_outage(seen), "s", PROMISED, most, "0" if kind.is_free else "≤ 1 ×")


def _files(apps: Mapping[str, Compose]) -> dict[str, str | None]:
    return {f"apps/{name}/compose.yaml": yaml.safe_dump(compose, sort_keys=False) for name, compose in apps.items()}


def _gone(names: Any) -> dict[str, str | None]:
    return {f"apps/{name}/compose.yaml": None for name in names}
