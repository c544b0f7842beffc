"""The answers of Docker's API that are read here, as far as they are read.  Pure.

Source: https://docs.docker.com/reference/api/engine/version/v1.41/, and the recorded answers in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict


class NetworkEndpoint(TypedDict):
    """A container on a network; `IPAMConfig` has the addresses that were asked for, None without any."""

    IPAMConfig: Mapping[str, object] | None
    EndpointID: str
    NetworkID: NotRequired[str]
    IPAddress: NotRequired[str]
    GlobalIPv6Address: NotRequired[str]
    Aliases: NotRequired[list[str] | None]


class PortBinding(TypedDict):
    """An address and port of the host; those of a request may be "" for any."""

    HostIp: str
    HostPort: str


PortBindings = Mapping[str, Sequence[PortBinding] | None]  # by port and protocol in the container: `80/tcp`


class Device(TypedDict):
    PathOnHost: str


class DeviceRequest(TypedDict):
    Driver: NotRequired[str]
    Count: NotRequired[int]
    DeviceIDs: NotRequired[list[str] | None]
    Capabilities: NotRequired[list[list[str]] | None]


class Ulimit(TypedDict):
    Name: str
    Hard: int


class HostConfig(TypedDict):
    NetworkMode: NotRequired[str]
    PortBindings: NotRequired[PortBindings | None]
    Privileged: NotRequired[bool]
    GroupAdd: NotRequired[list[str] | None]
    Devices: NotRequired[list[Device] | None]
    DeviceRequests: NotRequired[list[DeviceRequest] | None]
    Sysctls: NotRequired[dict[str, str] | None]
    SecurityOpt: NotRequired[list[str] | None]
    Runtime: NotRequired[str]
    Tmpfs: NotRequired[dict[str, str] | None]
    Ulimits: NotRequired[list[Ulimit] | None]


class NetworkSettings(TypedDict):
    Networks: dict[str, NetworkEndpoint] | None
    Ports: NotRequired[PortBindings | None]


class ContainerMount(TypedDict):
    """A mount of a container; `Name` is that of a volume, `Source` its place on the host, `RW` if it may be written."""

    Type: str
    Name: NotRequired[str]
    Source: NotRequired[str]
    Destination: str
    RW: NotRequired[bool]


class PublishedPort(TypedDict):
    """A port of a running container; without a `PublicPort` it is not published."""

    IP: NotRequired[str]
    PrivatePort: int
    PublicPort: NotRequired[int]
    Type: str


class ListedContainer(TypedDict):
    """`GET /containers/json`; a container that is being removed has no names left."""

    Id: str
    Names: list[str]
    Labels: dict[str, str]
    State: str
    Status: str
    Created: int
    HostConfig: HostConfig
    NetworkSettings: NetworkSettings
    Mounts: NotRequired[list[ContainerMount]]
    Ports: NotRequired[list[PublishedPort] | None]


class ContainerHealth(TypedDict):
    Status: NotRequired[str]


class ContainerState(TypedDict):
    """`Error` is why the engine did not start it the last time."""

    Status: str
    Error: NotRequired[str]
    StartedAt: str
    FinishedAt: NotRequired[str]
    ExitCode: int
    Pid: int
    Health: NotRequired[ContainerHealth]


class ContainerConfig(TypedDict):
    Labels: dict[str, str] | None
    User: NotRequired[str]
    WorkingDir: NotRequired[str]
    Env: NotRequired[list[str] | None]
    Entrypoint: NotRequired[list[str] | None]


class PathStat(TypedDict):
    """A path of a container: Go's bits of a file mode, and where a link leads to, "" for none."""

    mode: int
    mtime: str
    linkTarget: str


class InspectedContainer(TypedDict):
    """`GET /containers/{name}/json`; `Path` is the program that it starts."""

    Id: str
    Name: str
    Path: NotRequired[str]
    Mounts: NotRequired[list[ContainerMount]]
    State: ContainerState
    Config: ContainerConfig
    HostConfig: HostConfig
    NetworkSettings: NetworkSettings


class ListedImage(TypedDict):
    """`GET /images/json`."""

    Id: str
    RepoTags: list[str] | None
    RepoDigests: list[str] | None


class ImageConfig(TypedDict, total=False):
    Volumes: dict[str, object] | None


class InspectedImage(TypedDict):
    """`GET /images/{name}/json`."""

    Config: NotRequired[ImageConfig | None]


class ListedPool(TypedDict, total=False):
    """The addresses of a network."""

    Subnet: str
    IPRange: str
    Gateway: str


class ListedIpam(TypedDict):
    Config: list[ListedPool] | None


class JoinedContainer(TypedDict):
    Name: str
    IPv4Address: str
    IPv6Address: str


class ListedNetwork(TypedDict):
    """`GET /networks`; `Containers`, those that run, only of one, `GET /networks/{id}`."""

    Id: str
    Name: str
    Labels: dict[str, str] | None
    IPAM: ListedIpam
    Containers: NotRequired[dict[str, JoinedContainer] | None]


class ListedVolume(TypedDict):
    """`GET /volumes`."""

    Name: str
    Labels: dict[str, str] | None


class EnginePlugins(TypedDict, total=False):
    Log: list[str]


class EngineFirewall(TypedDict):
    Driver: str


class DiscoveredDevice(TypedDict):
    Source: NotRequired[str]
    ID: str


class EngineSwarm(TypedDict, total=False):
    LocalNodeState: str  # inactive, pending, active, error or locked
    NodeID: str
    ControlAvailable: bool


class EngineInfo(TypedDict, total=False):
    """`GET /info`."""

    ServerVersion: str
    LiveRestoreEnabled: bool
    Driver: str
    DriverStatus: list[list[str]] | None
    DockerRootDir: str
    CDISpecDirs: list[str] | None
    DiscoveredDevices: list[DiscoveredDevice] | None  # since 28.2
    OperatingSystem: str
    Plugins: EnginePlugins
    SecurityOptions: list[str] | None
    FirewallBackend: EngineFirewall | None  # since 28.0
    Swarm: EngineSwarm
    HttpProxy: str
    HttpsProxy: str


class Replicated(TypedDict, total=False):
    Replicas: int


class ServiceMode(TypedDict, total=False):
    Replicated: Replicated


class ServiceMount(TypedDict):
    Type: str
    Source: NotRequired[str]
    ReadOnly: NotRequired[bool]


class ServiceContainer(TypedDict, total=False):
    Mounts: list[ServiceMount] | None


class ServiceTask(TypedDict, total=False):
    ContainerSpec: ServiceContainer


class ServicePort(TypedDict):
    Protocol: NotRequired[str]
    PublishedPort: NotRequired[int]


class ServiceEndpoint(TypedDict, total=False):
    Ports: list[ServicePort] | None


class ServiceSpec(TypedDict):
    Name: str
    Labels: dict[str, str] | None
    Mode: ServiceMode
    TaskTemplate: NotRequired[ServiceTask]
    EndpointSpec: NotRequired[ServiceEndpoint]


class ListedService(TypedDict):
    """A service of a Swarm, of `GET /services`."""

    ID: str
    CreatedAt: str
    Spec: ServiceSpec


class ConfigSpec(TypedDict):
    """`Data` is the content in base64; a secret tells none."""

    Name: str
    Labels: dict[str, str] | None
    Data: NotRequired[str]


class ListedConfig(TypedDict):
    """A config or a secret of a Swarm, of `GET /configs` or `GET /secrets`."""

    ID: str
    Spec: ConfigSpec


class TaskContainer(TypedDict, total=False):
    ExitCode: int


class TaskPort(TypedDict):
    """A port that is published on the node; there is one for each family of addresses."""

    TargetPort: int
    PublishedPort: NotRequired[int]


class TaskPorts(TypedDict, total=False):
    Ports: list[TaskPort] | None


class TaskStatus(TypedDict):
    State: str
    Err: NotRequired[str]
    ContainerStatus: NotRequired[TaskContainer | None]
    PortStatus: NotRequired[TaskPorts]


class ListedTask(TypedDict):
    """A task, of `GET /tasks`; it has no node before there is one for it."""

    ID: str
    CreatedAt: str
    ServiceID: str
    NodeID: NotRequired[str]
    DesiredState: str
    Status: TaskStatus
    Spec: NotRequired[ServiceTask]


class NodeDescription(TypedDict):
    Hostname: str


class NodeStatus(TypedDict):
    State: str
    Addr: NotRequired[str]


class NodeManager(TypedDict, total=False):
    Leader: bool
    Addr: str


class ListedNode(TypedDict):
    """A node, of `GET /nodes`; only managers have a `ManagerStatus`."""

    ID: str
    Description: NodeDescription
    Status: NodeStatus
    ManagerStatus: NotRequired[NodeManager]


class EngineComponent(TypedDict):
    Name: str


class EngineVersion(TypedDict, total=False):
    """`GET /version`."""

    Components: list[EngineComponent] | None


class EngineEventActor(TypedDict):
    ID: str
    Attributes: dict[str, str]


class EngineEvent(TypedDict):
    """`GET /events`."""

    Type: str
    Action: str
    Actor: EngineEventActor
