"""What the readers of a service's keys return: each value in normal form, with its place where a mistake may follow.

Each class has the keys of the table that is read into it.  Pure.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import (
    BindOptions,
    DeviceRequest,
    Endpoint,
    Ipam,
    Mount,
    Port,
    RunKeys,
    TmpfsOptions,
    VolumeMountOptions,
)
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.placement import Constraint
from gitops_mvd.probes import Values


class DependencyKeys(TypedDict, total=False):
    condition: str
    required: bool
    restart: bool


class EnvFileKeys(TypedDict, total=False):
    path: str
    required: bool
    format: str


class MountKeys(TypedDict, total=False):
    type: Literal["volume", "bind", "tmpfs"]
    source: str
    target: str
    read_only: bool
    bind: BindOptions
    volume: VolumeMountOptions
    tmpfs: TmpfsOptions


class AttachmentKeys(Endpoint, total=False):
    use_service_name_alias: bool


class NetworkKeys(TypedDict, total=False):
    """`external` may be the name of what exists already."""

    name: str
    external: bool | str
    driver: str
    driver_opts: dict[str, str]
    ipam: Ipam
    internal: bool
    attachable: bool
    enable_ipv4: bool
    enable_ipv6: bool
    labels: dict[str, str]


class VolumeKeys(TypedDict, total=False):
    """`external` may be the name of what exists already."""

    name: str
    external: bool | str
    driver: str
    driver_opts: dict[str, str]
    labels: dict[str, str]


class GrantKeys(TypedDict, total=False):
    source: str
    target: str
    uid: int
    gid: int
    mode: int


class UpdateKeys(TypedDict, total=False):
    order: str
    failure_action: str
    parallelism: int
    delay: float
    monitor: float


class LimitKeys(TypedDict, total=False):
    cpus: float
    memory: int
    pids: int


class ReservationKeys(TypedDict, total=False):
    memory: int
    cpus: float
    generic_resources: list[tuple[str, int]]
    devices: list[DeviceRequest]


class ResourceKeys(TypedDict, total=False):
    limits: LimitKeys
    reservations: ReservationKeys


class PlacementKeys(TypedDict, total=False):
    constraints: list[tuple[Place, Constraint]]
    preferences: list[str]
    max_replicas_per_node: int


class RestartPolicyKeys(TypedDict, total=False):
    condition: str
    max_attempts: int


class DeployKeys(TypedDict, total=False):
    mode: str
    replicas: int
    update_config: UpdateKeys
    placement: PlacementKeys
    resources: ResourceKeys
    restart_policy: str
    labels: dict[str, str]


class MvdKeys(TypedDict, total=False):
    """`x-mvd`; what `health` has depends on the probe."""

    health: Values
    schedule: str


class AppMvdKeys(TypedDict, total=False):
    """`x-mvd` beside `services`."""

    suspend: Suspension


class KongKeys(TypedDict):
    """`x-kong` without its short forms; `port` is 0 if it must follow from other keys."""

    port: int
    protocol: str
    routes: list[tuple[Place, Declaration]]
    plugins: list[Declaration]
    service: Declaration
    upstream: Declaration


_Extensions = TypedDict("_Extensions", {"x-mvd": MvdKeys, "x-kong": KongKeys}, total=False)


class ServiceKeys(RunKeys, _Extensions, total=False):
    """A service, without what only names other services (`extends`)."""

    image: str
    environment: list[tuple[Place, str, str | None]]
    env_file: list[tuple[Place, EnvFileKeys]]
    labels: dict[str, str]
    label_file: list[tuple[Place, EnvFileKeys]]
    ports: list[tuple[Place, Port]]
    volumes: list[tuple[Place, Mount]]
    tmpfs: list[tuple[Place, str]]
    configs: list[tuple[Place, GrantKeys]]
    secrets: list[tuple[Place, GrantKeys]]
    networks: dict[str, tuple[Place, AttachmentKeys]]
    container_name: str
    links: list[tuple[Place, tuple[str, str]]]
    depends_on: dict[str, tuple[Place, str, bool]]
    deploy: DeployKeys
    scale: int
    profiles: list[str]
    pull_policy: str
    extends: str


def replicas(values: ServiceKeys) -> int:
    """How many instances a host has of it."""
    deploy = values.get("deploy", {})
    count = deploy.get("replicas", values.get("scale", 1))
    return min(count, 1) if deploy.get("mode") == "global" else count


def restart(values: ServiceKeys) -> str:
    """The policy by which it is started again, as the manifest has it; "" if it is left out."""
    return values.get("deploy", {}).get("restart_policy") or values.get("restart", "")


def schedule(values: ServiceKeys) -> str:
    """When it runs; "" for all the time."""
    return values.get("x-mvd", {}).get("schedule", "")
